package kube

import (
	"fmt"
	"strconv"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"meshtest.dev/meshtest/env/kube/inject"
	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/mesh"
)

// system is everything of the mesh that is not beside an application: what stands in the run's own namespace, and the few objects of the cluster that lead there.
type system struct {
	run          string
	namespace    string            // of the system
	applications map[string]string // real namespaces of applications, with their logical names
	images       imageNames
	credentials  credentials
	owner        string // token of whoever owns the configuration
	key          string // from which the other tokens are derived
	load         string // token of the load agent
	logLevel     string
	expires      string // until when the cluster's objects are nobody's garbage
	entries      []mesh.OutboundPort
}

// imageNames are the references of the mesh's own images.
type imageNames struct {
	sidecar string
	control string
	fixture string
	load    string
}

func (s system) controlHost() string { return names.Control + "." + s.namespace + ".svc" }

func (s system) controlAddress() string {
	return s.controlHost() + ":" + strconv.Itoa(names.PortControl)
}

func (s system) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: s.namespace, Labels: map[string]string{names.LabelRun: s.run}}
}

// clusterMeta is of an object that belongs to no namespace: it says when it may be swept.
func (s system) clusterMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: name, Labels: map[string]string{names.LabelRun: s.run}, Annotations: map[string]string{names.AnnotationExpires: s.expires},
	}
}

// systemNamespace enforces the restricted Pod Security Standard: nothing of ours there needs more.
func (s system) systemNamespace() *corev1.Namespace {
	ns := &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: s.clusterMeta(s.namespace)}
	ns.Labels["pod-security.kubernetes.io/enforce"] = "restricted"
	return ns
}

// access is what must be there before the control plane starts: what it may do and what it knows.
func (s system) access() []runtime.Object {
	objects := []runtime.Object{
		account(s.meta(names.Control)), account(s.meta(names.Gateway)), account(s.meta(names.Load)),
		s.secret(names.Control, map[string][]byte{
			corev1.TLSCertKey: s.credentials.chain, corev1.TLSPrivateKeyKey: s.credentials.key,
			names.KeyOwnerToken: []byte(s.owner), names.KeyInstanceKey: []byte(s.key),
		}),
		s.secret(names.Rules, nil),
		s.secret(names.Load, map[string][]byte{names.KeyLoadToken: []byte(s.load)}),
		&coordinationv1.Lease{TypeMeta: metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"}, ObjectMeta: s.meta(names.Control)},
		s.authority(s.namespace),
	}
	objects = append(objects, s.clusterRole()...)
	objects = append(objects, s.role(s.namespace, systemRules())...)
	for namespace := range s.applications {
		objects = append(objects, s.authority(namespace))
		objects = append(objects, s.role(namespace, applicationRules())...)
	}
	return objects
}

func account(meta metav1.ObjectMeta) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: meta, AutomountServiceAccountToken: new(bool)}
}

func (s system) secret(name string, data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: s.meta(name), Data: data}
}

// authority is how sidecars of a namespace know their control plane.
func (s system) authority(namespace string) *corev1.ConfigMap {
	meta := s.meta(names.CA)
	meta.Namespace = namespace
	return &corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: meta, Data: map[string]string{names.KeyCA: string(s.credentials.authority)},
	}
}

// applicationRules are what the control plane may do where applications are: look.
func applicationRules() []rbacv1.PolicyRule {
	look := []string{"list", "watch"}
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"services", "pods"}, Verbs: look},
		{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: look},
		{APIGroups: []string{"networking.istio.io"}, Resources: []string{"virtualservices", "destinationrules", "gateways", "serviceentries"}, Verbs: look},
		{APIGroups: []string{"gateway.networking.k8s.io"}, Resources: []string{"gateways", "httproutes", "grpcroutes", "referencegrants"}, Verbs: look},
		{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"get"}}, // its own: a role says nothing of others
	}
}

// systemRules are what it may do in its own namespace: find its gateways, take the lead, and keep the rules that it was given. It creates nothing.
func systemRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list", "watch"}},
		{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{names.Rules}, Verbs: []string{"get", "update"}},
		{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, ResourceNames: []string{names.Control}, Verbs: []string{"get", "update"}},
	}
}

// clusterRole lets the control plane ask who shows a token. That is a question to the cluster, so no namespace can hold the permission.
func (s system) clusterRole() []runtime.Object {
	name := s.clusterName()
	return []runtime.Object{
		&rbacv1.ClusterRole{
			TypeMeta: metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole"}, ObjectMeta: s.clusterMeta(name),
			Rules: []rbacv1.PolicyRule{{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"}}},
		},
		&rbacv1.ClusterRoleBinding{
			TypeMeta: metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRoleBinding"}, ObjectMeta: s.clusterMeta(name),
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: names.Control, Namespace: s.namespace}},
		},
	}
}

// clusterName names the run's objects that belong to no namespace.
func (s system) clusterName() string { return s.namespace }

func (s system) role(namespace string, rules []rbacv1.PolicyRule) []runtime.Object {
	meta := s.meta(s.namespace)
	meta.Namespace = namespace
	return []runtime.Object{
		&rbacv1.Role{TypeMeta: metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "Role"}, ObjectMeta: meta, Rules: rules},
		&rbacv1.RoleBinding{
			TypeMeta: metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "RoleBinding"}, ObjectMeta: meta,
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: meta.Name},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: names.Control, Namespace: s.namespace}},
		},
	}
}

// programs are the control plane, the gateway and, if load comes from inside, the load agent.
func (s system) programs() []runtime.Object {
	programs := []runtime.Object{s.controlService(), s.controlDeployment(), s.gatewayService(), s.gatewayDeployment()}
	if s.images.load != "" {
		programs = append(programs, s.loadDeployment())
	}
	return programs
}

func (s system) controlService() *corev1.Service {
	return &corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: s.meta(names.Control),
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{names.LabelRole: names.RoleControl},
			Ports: []corev1.ServicePort{
				{Name: "grpc", Port: names.PortControl, TargetPort: intstr.FromInt(names.PortControl)},
				{Name: "webhook", Port: 443, TargetPort: intstr.FromInt(names.PortWebhook)},
			},
		},
	}
}

// deployment is one program of the system.
func (s system) deployment(name, role string, pod corev1.PodSpec) *appsv1.Deployment {
	selector := map[string]string{names.LabelRole: role}
	meta := metav1.ObjectMeta{Labels: map[string]string{names.LabelRole: role, names.LabelRun: s.run}}
	pod.ServiceAccountName = name
	pod.EnableServiceLinks = new(bool)
	pod.TerminationGracePeriodSeconds = ptr(int64(3)) // when it goes nobody needs it any more, or another one is there
	pod.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: ptr(true), FSGroup: ptr(int64(names.UID))}
	return &appsv1.Deployment{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: s.meta(name),
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: selector}, RevisionHistoryLimit: new(int32),
			Template: corev1.PodTemplateSpec{ObjectMeta: meta, Spec: pod},
		},
	}
}

func (s system) controlDeployment() *appsv1.Deployment {
	args := []string{
		"--kubernetes", "--run=" + s.run, "--secrets=" + names.SecretsDir, "--log-level=" + s.logLevel, "--sidecar-image=" + s.images.sidecar,
	}
	for real, logical := range s.applications {
		args = append(args, fmt.Sprintf("--namespace=%s=%s", real, logical))
	}
	c := corev1.Container{
		Name: "control", Image: s.images.control, Args: args, ImagePullPolicy: corev1.PullIfNotPresent, SecurityContext: restricted(),
		Env:            []corev1.EnvVar{fieldVar("POD_NAME", "metadata.name"), fieldVar("POD_NAMESPACE", "metadata.namespace")},
		Ports:          []corev1.ContainerPort{{Name: "grpc", ContainerPort: names.PortControl}, {Name: "webhook", ContainerPort: names.PortWebhook}},
		ReadinessProbe: httpProbe(names.PathReady, names.PortReady),
		VolumeMounts:   []corev1.VolumeMount{{Name: "secrets", MountPath: names.SecretsDir, ReadOnly: true}},
	}
	d := s.deployment(names.Control, names.RoleControl, corev1.PodSpec{
		Containers: []corev1.Container{c}, AutomountServiceAccountToken: ptr(true),
		Volumes: []corev1.Volume{{Name: "secrets", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: names.Control}}}},
	})
	return d
}

func fieldVar(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
}

func httpProbe(path string, port int) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt(port)}},
		PeriodSeconds: 1, TimeoutSeconds: 2, FailureThreshold: 3,
	}
}

// gatewayService makes the gateway reachable from outside, on a port of every node for each entry.
func (s system) gatewayService() *corev1.Service {
	service := &corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: s.meta(names.Gateway),
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Selector: map[string]string{names.LabelRole: names.RoleGateway}},
	}
	for i := range s.entries {
		port := entryPort(i)
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: "entry-" + strconv.Itoa(i), Port: int32(port), TargetPort: intstr.FromInt(port)})
	}
	return service
}

// gatewayDeployment is a sidecar beside nobody: what comes in there enters the mesh.
func (s system) gatewayDeployment() *appsv1.Deployment {
	d := s.deployment(names.Gateway, names.RoleGateway, corev1.PodSpec{
		Containers:                   []corev1.Container{ordinary(inject.Sidecar(s.injection()))},
		Volumes:                      []corev1.Volume{inject.Volume()},
		AutomountServiceAccountToken: new(bool),
	})
	d.Spec.Template.Annotations = inject.ScrapeAnnotations()
	return d
}

// ordinary makes a native sidecar an ordinary container.
func ordinary(c corev1.Container) corev1.Container {
	c.RestartPolicy = nil
	return c
}

// injection is how pods of this run get their sidecars.
func (s system) injection() inject.Config {
	return inject.Config{Image: s.images.sidecar, ControlAddress: s.controlAddress(), RunID: s.run, LogLevel: s.logLevel, NativeSidecars: true}
}

// entryPort is where the gateway listens for its i-th entry.
func entryPort(i int) int { return 20_000 + i }

// loadDeployment is the load agent.
func (s system) loadDeployment() *appsv1.Deployment {
	c := corev1.Container{
		Name: "load", Image: s.images.load, ImagePullPolicy: corev1.PullIfNotPresent, SecurityContext: restricted(),
		Args:         []string{"serve", "--listen", "127.0.0.1:" + strconv.Itoa(names.PortLoad), "--token-file", names.SecretsDir + "/" + names.KeyLoadToken},
		VolumeMounts: []corev1.VolumeMount{{Name: "secrets", MountPath: names.SecretsDir, ReadOnly: true}},
	}
	return s.deployment(names.Load, names.RoleLoad, corev1.PodSpec{
		Containers: []corev1.Container{c}, AutomountServiceAccountToken: new(bool),
		Volumes: []corev1.Volume{{Name: "secrets", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: names.Load}}}},
	})
}

// webhook has pods injected that are made in the run's own application namespaces. There it fails closed: a pod without its sidecar would be outside the mesh and nobody would
// know. It can have no say anywhere else: the selector names the run, and the control plane's own namespace has another label.
func (s system) webhook() *admissionv1.MutatingWebhookConfiguration {
	path := names.PathInject
	return &admissionv1.MutatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "MutatingWebhookConfiguration"},
		ObjectMeta: s.clusterMeta(s.clusterName()),
		Webhooks: []admissionv1.MutatingWebhook{{
			Name: "inject." + names.Domain, AdmissionReviewVersions: []string{"v1"},
			ClientConfig: admissionv1.WebhookClientConfig{
				Service:  &admissionv1.ServiceReference{Name: names.Control, Namespace: s.namespace, Path: &path},
				CABundle: s.credentials.authority,
			},
			NamespaceSelector: &metav1.LabelSelector{
				MatchLabels: map[string]string{names.LabelInject: names.Enabled, names.LabelRun: s.run},
				MatchExpressions: []metav1.LabelSelectorRequirement{{
					Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: []string{metav1.NamespaceSystem, s.namespace},
				}},
			},
			ObjectSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
				Key: names.LabelInject, Operator: metav1.LabelSelectorOpNotIn, Values: []string{names.Disabled},
			}}},
			Rules: []admissionv1.RuleWithOperations{{
				Operations: []admissionv1.OperationType{admissionv1.Create},
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}, Scope: ptr(admissionv1.NamespacedScope)},
			}},
			FailurePolicy: ptr(admissionv1.Fail), SideEffects: ptr(admissionv1.SideEffectClassNone), TimeoutSeconds: ptr(int32(5)),
			ReinvocationPolicy: ptr(admissionv1.IfNeededReinvocationPolicy),
		}},
	}
}
