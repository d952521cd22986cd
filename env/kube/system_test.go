package kube

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/mesh"
)

func testSystem(t *testing.T) system {
	t.Helper()
	s := system{
		run: "r-1", namespace: "meshtest-r-1", applications: map[string]string{"shop-r-1": "shop"}, owner: "o", key: "k", load: "l", logLevel: "WARN",
		images:  imageNames{sidecar: "sidecar:1", control: "control:1", fixture: "fixture:1", load: "load:1"},
		entries: []mesh.OutboundPort{{Host: "a.shop.svc.cluster.local", Port: 8080}, {Host: "b.shop.svc.cluster.local", Port: 80}},
	}
	var err error
	s.credentials, err = newCredentials(s.run, []string{s.controlHost()}, time.Now())
	require.NoError(t, err)
	return s
}

// Who may do what, whole: a permission that is added has to be added here.
func TestAccounts(t *testing.T) {
	t.Parallel()
	s := testSystem(t)
	may := map[string][]string{}
	for _, o := range s.access() {
		switch o := o.(type) {
		case *rbacv1.Role:
			may[o.Namespace] = append(may[o.Namespace], rules(o.Rules)...)
		case *rbacv1.ClusterRole:
			may["*"] = append(may["*"], rules(o.Rules)...)
		case *rbacv1.RoleBinding:
			require.Equal(t, []rbacv1.Subject{{Kind: "ServiceAccount", Name: "meshtest-control", Namespace: s.namespace}}, o.Subjects, "nobody else may do anything")
		case *rbacv1.ClusterRoleBinding:
			require.Equal(t, []rbacv1.Subject{{Kind: "ServiceAccount", Name: "meshtest-control", Namespace: s.namespace}}, o.Subjects)
		}
	}
	require.Equal(t, map[string][]string{
		"*": {"create authentication.k8s.io/tokenreviews"},
		"meshtest-r-1": {
			"list /pods", "watch /pods",
			"get /secrets meshtest-rules", "update /secrets meshtest-rules",
			"get coordination.k8s.io/leases meshtest-control", "update coordination.k8s.io/leases meshtest-control",
		},
		"shop-r-1": {
			"list /services", "watch /services", "list /pods", "watch /pods",
			"list discovery.k8s.io/endpointslices", "watch discovery.k8s.io/endpointslices",
			"list networking.istio.io/virtualservices", "watch networking.istio.io/virtualservices",
			"list networking.istio.io/destinationrules", "watch networking.istio.io/destinationrules",
			"list networking.istio.io/gateways", "watch networking.istio.io/gateways", "list networking.istio.io/serviceentries", "watch networking.istio.io/serviceentries",
			"list gateway.networking.k8s.io/gateways", "watch gateway.networking.k8s.io/gateways", "list gateway.networking.k8s.io/httproutes", "watch gateway.networking.k8s.io/httproutes",
			"list gateway.networking.k8s.io/grpcroutes", "watch gateway.networking.k8s.io/grpcroutes",
			"list gateway.networking.k8s.io/referencegrants", "watch gateway.networking.k8s.io/referencegrants", "get /namespaces",
		},
	}, may)
}

func rules(rules []rbacv1.PolicyRule) (all []string) {
	for _, r := range rules {
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				for _, verb := range r.Verbs {
					text := verb + " " + group + "/" + resource
					for _, name := range r.ResourceNames {
						text += " " + name
					}
					all = append(all, text)
				}
			}
		}
	}
	return all
}

// Every pod of ours, and every sample application, satisfies the restricted Pod Security Standard.
func TestPodsAreRestricted(t *testing.T) {
	t.Parallel()
	s := testSystem(t)
	objects := s.programs()
	for _, w := range []env.Workload{testWorkload("web", "v1", env.Program{Fixture: "chain"}), testWorkload("time", "", env.Program{Fixture: "time"})} {
		made, err := (application{Workload: w, replicas: 1, namespace: "shop-r-1"}).objects("r-1", s.images)
		require.NoError(t, err)
		objects = append(objects, made...)
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	require.NoError(t, err)
	pods := 0
	for _, o := range objects {
		d, ok := o.(*appsv1.Deployment)
		if !ok {
			continue
		}
		pods++
		level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
		for _, result := range evaluator.EvaluatePod(level, &d.Spec.Template.ObjectMeta, &d.Spec.Template.Spec) {
			require.True(t, result.Allowed, "%s: %s: %s", d.Name, result.ForbiddenReason, result.ForbiddenDetail)
		}
		for _, c := range d.Spec.Template.Spec.Containers {
			require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem, "%s: %s", d.Name, c.Name)
		}
	}
	require.Equal(t, 5, pods)
}

func testWorkload(service, version string, p env.Program) env.Workload {
	name := service
	if version != "" {
		name = mesh.WorkloadName(service, version)
	}
	return env.Workload{
		Workload: mesh.Workload{Name: name, Namespace: "shop", Service: service, Version: version, Instance: name + "-1", Labels: mesh.Labels{"app": service, "version": version}},
		External: version == "", Host: mesh.FQDN(service, "shop"), Port: 80, Protocol: mesh.HTTP, Program: p, Readiness: env.Readiness{Path: "/healthz"},
		Upstreams: []env.Upstream{{Name: "time", Host: "time.shop.svc.cluster.local", Port: 8090}},
		Resolve: func(a env.Addresses) (env.Start, error) {
			host, port, ok := a.Upstream("time")
			if !ok {
				return env.Start{}, nil
			}
			return env.Start{Env: map[string]string{"UPSTREAM": host + ":" + string(rune('0'+port%10))}}, nil
		},
	}
}

func TestApplicationsOfADeployment(t *testing.T) {
	t.Parallel()
	one, two := testWorkload("web", "v1", env.Program{Fixture: "chain"}), testWorkload("web", "v1", env.Program{Fixture: "chain"})
	two.Instance = "web-v1-2"
	all := applications(env.Deployment{Workloads: []env.Workload{one, two, testWorkload("time", "", env.Program{Image: "time:1", PullSecrets: []string{"registry"}})}}, "real")
	require.Len(t, all, 2)
	require.Equal(t, "time", all[0].Name)
	require.EqualValues(t, 2, all[1].replicas)

	objects, err := all[1].objects("r-1", imageNames{fixture: "fixture:1"})
	require.NoError(t, err)
	d := find[*appsv1.Deployment](t, objects)
	c := d.Spec.Template.Spec.Containers[0]
	require.Equal(t, "fixture:1", c.Image)
	require.Equal(t, []string{"chain"}, c.Args)
	require.Contains(t, c.Env, corev1.EnvVar{Name: "PORT", Value: "10080"}, "who is not root does not listen on port 80")
	require.Contains(t, c.Env, corev1.EnvVar{Name: "UPSTREAM", Value: "time:0"})
	service := find[*corev1.Service](t, objects)
	require.EqualValues(t, 80, service.Spec.Ports[0].Port)
	require.EqualValues(t, 10080, service.Spec.Ports[0].TargetPort.IntVal)

	objects, err = all[0].objects("r-1", imageNames{fixture: "fixture:1"})
	require.NoError(t, err)
	d = find[*appsv1.Deployment](t, objects)
	require.Equal(t, "disabled", d.Spec.Template.Labels["meshtest.dev/inject"], "what is outside the mesh gets no sidecar")
	require.Equal(t, []corev1.LocalObjectReference{{Name: "registry"}}, d.Spec.Template.Spec.ImagePullSecrets)
	require.Nil(t, d.Spec.Template.Spec.Containers[0].SecurityContext, "an author's image runs as it would without us")

	_, err = (application{Workload: testWorkload("web", "v1", env.Program{Command: []string{"true"}})}).objects("r-1", imageNames{})
	require.ErrorContains(t, err, "not commands of this machine")
}

func find[T runtime.Object](t *testing.T, objects []runtime.Object) T {
	t.Helper()
	for _, o := range objects {
		if is, ok := o.(T); ok {
			return is
		}
	}
	require.Fail(t, "there is no such object")
	panic("unreachable")
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	c, err := newCredentials("r-1", []string{"meshtest-control.meshtest-r-1.svc"}, time.Now())
	require.NoError(t, err)
	_, err = tls.X509KeyPair(c.chain, c.key)
	require.NoError(t, err)
	block, _ := pem.Decode(c.chain)
	leaf, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	_, err = leaf.Verify(x509.VerifyOptions{Roots: c.roots(), DNSName: "meshtest-control.meshtest-r-1.svc"})
	require.NoError(t, err)
	_, err = leaf.Verify(x509.VerifyOptions{Roots: c.roots(), DNSName: "elsewhere"})
	require.Error(t, err)
	other, err := newCredentials("r-2", []string{"meshtest-control.meshtest-r-2.svc"}, time.Now())
	require.NoError(t, err)
	_, err = leaf.Verify(x509.VerifyOptions{Roots: other.roots(), DNSName: "meshtest-control.meshtest-r-1.svc"})
	require.Error(t, err, "each run has an authority of its own")
}
