package kube

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/mesh"
)

// privilegedPorts is how many ports an application that is not root may not listen on.
const privilegedPorts = 1024

// application is one workload of the deployment: all its instances together, as Kubernetes sees them.
type application struct {
	env.Workload // of its first instance
	replicas     int32
	namespace    string // real
	deployed     string // name of its Deployment; empty: the workload's
}

func (a application) deploymentName() string {
	if a.deployed != "" {
		return a.deployed
	}
	return a.Name
}

// applications groups the instances of a deployment by workload, in the order of their names.
func applications(d env.Deployment, namespace string) []application {
	byName := map[string]*application{}
	for _, w := range d.Workloads {
		a := byName[w.Name]
		if a == nil {
			a = &application{Workload: w, namespace: namespace}
			byName[w.Name] = a
		}
		a.replicas++
	}
	var all []application
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		all = append(all, *byName[name])
	}
	return all
}

// listens is the port that the application itself listens on. A Service translates, so a sample application need not be root to serve port 80.
func (a application) listens() int {
	if a.Program.Fixture != "" && a.Port < privilegedPorts {
		return 10_000 + a.Port
	}
	return a.Port
}

// Self is where the application listens: on all addresses of its pod.
func (a application) Self() (string, int) { return "0.0.0.0", a.listens() }

// Upstream is the upstream's Service: the sidecar captures what goes there.
func (a application) Upstream(name string) (string, int, bool) {
	i := slices.IndexFunc(a.Upstreams, func(u env.Upstream) bool { return u.Name == name })
	if i < 0 {
		return "", 0, false
	}
	short, _, ok := mesh.ShortName(a.Upstreams[i].Host)
	return short, a.Upstreams[i].Port, ok
}

// service is the short name of the service that the workload belongs to.
func (a application) service() string {
	if a.Service != "" {
		return a.Service
	}
	return a.Name
}

// objects are what Kubernetes is asked for: an account and a Service for its service, and a Deployment.
func (a application) objects(run string, images imageNames) ([]runtime.Object, error) {
	deployment, err := a.deployment(run, images)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", a.Name, err)
	}
	return []runtime.Object{a.account(run), a.serviceObject(run), deployment}, nil
}

func (a application) meta(name, run string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: name, Namespace: a.namespace, Labels: map[string]string{mesh.LabelApp: a.service(), names.LabelRun: run},
	}
}

func (a application) account(run string) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
		ObjectMeta: a.meta(a.service(), run), AutomountServiceAccountToken: new(bool),
	}
}

func (a application) serviceObject(run string) *corev1.Service {
	protocol := string(a.Protocol)
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: a.meta(a.service(), run),
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{mesh.LabelApp: a.service()},
			Ports: []corev1.ServicePort{{
				Name: protocol, Port: int32(a.Port), TargetPort: intstr.FromInt(a.listens()), AppProtocol: &protocol,
			}},
		},
	}
}

func (a application) deployment(run string, images imageNames) (*appsv1.Deployment, error) {
	container, err := a.container(images)
	if err != nil {
		return nil, err
	}
	labels := maps.Clone(map[string]string(a.Labels))
	if labels == nil {
		labels = map[string]string{}
	}
	labels[mesh.LabelApp] = a.service()
	selector := maps.Clone(labels)
	labels[names.LabelRun] = run
	if a.External {
		labels[names.LabelInject] = names.Disabled
	}
	pod := corev1.PodSpec{
		ServiceAccountName: a.service(), AutomountServiceAccountToken: new(bool), EnableServiceLinks: new(bool),
		Containers: []corev1.Container{container}, TerminationGracePeriodSeconds: ptr(int64(10)),
	}
	for _, secret := range a.Program.PullSecrets {
		pod.ImagePullSecrets = append(pod.ImagePullSecrets, corev1.LocalObjectReference{Name: secret})
	}
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: a.meta(a.Name, run),
		Spec: appsv1.DeploymentSpec{
			Replicas: &a.replicas, Selector: &metav1.LabelSelector{MatchLabels: selector}, RevisionHistoryLimit: new(int32),
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod},
		},
	}, nil
}

// container is the application's own. What we bring ourselves satisfies the restricted Pod Security Standard; a user's image runs as it would without us.
func (a application) container(images imageNames) (corev1.Container, error) {
	start, err := a.Resolve(a)
	if err != nil {
		return corev1.Container{}, err
	}
	vars := map[string]string{"HOST": "0.0.0.0", "PORT": strconv.Itoa(a.listens())}
	maps.Copy(vars, start.Env)
	c := corev1.Container{
		Name: "app", Image: a.Program.Image, ImagePullPolicy: corev1.PullIfNotPresent,
		Ports:          []corev1.ContainerPort{{ContainerPort: int32(a.listens())}},
		ReadinessProbe: a.readiness(),
	}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: vars[name]})
	}
	if a.Program.Fixture != "" {
		c.Image, c.Args = images.fixture, []string{a.Program.Fixture}
		c.SecurityContext = restricted()
	}
	if c.Image == "" {
		return c, fmt.Errorf("a cluster runs fixtures, images and manifests, not commands of this machine")
	}
	return c, nil
}

// readiness asks often while the application starts: a run waits for it.
func (a application) readiness() *corev1.Probe {
	p := &corev1.Probe{PeriodSeconds: 1, TimeoutSeconds: 2, FailureThreshold: 3}
	port := intstr.FromInt(a.listens())
	if a.Readiness.Path != "" {
		p.HTTPGet = &corev1.HTTPGetAction{Path: a.Readiness.Path, Port: port}
	} else {
		p.TCPSocket = &corev1.TCPSocketAction{Port: port}
	}
	return p
}

// restricted is the security context of a container that needs nothing.
func restricted() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(bool), RunAsNonRoot: ptr(true), ReadOnlyRootFilesystem: ptr(true),
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

func ptr[T any](value T) *T { return &value }
