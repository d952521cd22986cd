package inject_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"meshtest.dev/meshtest/env/kube/inject"
	"meshtest.dev/meshtest/env/kube/names"
)

func TestPodsThatAreLeftAlone(t *testing.T) {
	t.Parallel()
	label := func(key, value string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Labels[key] = value }
	}
	annotation := func(key, value string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Annotations = map[string]string{key: value} }
	}
	for name, tt := range map[string]struct {
		edit    func(*corev1.Pod)
		skipped string
		warned  bool
	}{
		"our label":                    {label(names.LabelInject, names.Disabled), "the pod opts out", false},
		"our annotation":               {annotation(names.LabelInject, names.Disabled), "the pod opts out", false},
		"Istio's label":                {label(names.IstioInject, "false"), "the pod opts out", false},
		"Istio's annotation":           {annotation(names.IstioInject, "False"), "the pod opts out", false},
		"Istio's label, the other way": {label(names.IstioInject, "true"), "", false},
		"of the mesh":                  {label(names.LabelRole, names.RoleGateway), "the pod is of the mesh itself", false},
		"kube-system":                  {func(p *corev1.Pod) { p.Namespace = "kube-system" }, "namespace kube-system is Kubernetes' own", false},
		"the node's network":           {func(p *corev1.Pod) { p.Spec.HostNetwork = true }, "the pod shares its node's network, where capturing traffic would capture everybody's", true},
		"Windows":                      {func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }, "the pod runs Windows", true},
		"another namespace":            {func(p *corev1.Pod) { p.Namespace = "elsewhere" }, "namespace elsewhere does not opt in", false},
		"default":                      {func(p *corev1.Pod) { p.Namespace = "" }, "namespace default does not opt in", false},
		"only the status":              {annotation(names.AnnotationStatus, inject.Template), "", false},
		// Somebody else's business comes first: what would be refused is left alone too.
		"opts out, and is refused": {func(p *corev1.Pod) {
			p.Labels[names.LabelInject] = names.Disabled
			p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: ptr(int64(names.UID))}
		}, "the pod opts out", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pod(tt.edit)
			before := p.DeepCopy()
			c := config()
			c.Namespaces = []string{"shop", "kube-system"}
			result, err := inject.Pod(&p.ObjectMeta, &p.Spec, c)
			require.NoError(t, err)
			require.Equal(t, tt.skipped, result.Skipped)
			if tt.skipped != "" {
				require.Equal(t, before, p)
			}
			if tt.warned {
				require.Equal(t, []string{"no sidecar: " + tt.skipped}, result.Warnings)
			} else {
				require.Empty(t, result.Warnings)
			}
		})
	}
}

func TestPodsThatAreRefused(t *testing.T) {
	t.Parallel()
	sidecarsUser := &corev1.SecurityContext{RunAsUser: ptr(int64(names.UID))}
	for name, tt := range map[string]struct {
		edit func(*corev1.Pod)
		err  string
	}{
		"the pod's user": {
			func(p *corev1.Pod) {
				p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: ptr(int64(names.UID))}
			},
			"spec.securityContext.runAsUser: 1337 is the sidecar's user, whose traffic is not captured: choose another one",
		},
		"the pod's group": {
			func(p *corev1.Pod) {
				p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsGroup: ptr(int64(names.UID))}
			},
			"spec.securityContext.runAsGroup: 1337 is the sidecar's group, whose traffic is not captured: choose another one",
		},
		"a container's user": {
			func(p *corev1.Pod) { p.Spec.Containers[0].SecurityContext = sidecarsUser },
			"spec.containers[0].securityContext.runAsUser: 1337 is the sidecar's user, whose traffic is not captured: choose another one",
		},
		"a container's group": {
			func(p *corev1.Pod) {
				p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{RunAsGroup: ptr(int64(names.UID))}
			},
			"spec.containers[0].securityContext.runAsGroup: 1337 is the sidecar's group, whose traffic is not captured: choose another one",
		},
		"an init container's user": {
			func(p *corev1.Pod) {
				p.Spec.InitContainers = []corev1.Container{{Name: "wait", SecurityContext: sidecarsUser}}
			},
			"spec.initContainers[0].securityContext.runAsUser: 1337 is the sidecar's user, whose traffic is not captured: choose another one",
		},
		"a container of our name": {
			func(p *corev1.Pod) { p.Spec.Containers[0].Name = names.ContainerSidecar },
			"spec.containers[0].name: the pod already has a container named meshtest-sidecar, which injection adds",
		},
		"an init container of our name, and our status": {
			func(p *corev1.Pod) {
				p.Annotations = map[string]string{names.AnnotationStatus: inject.Template}
				p.Spec.InitContainers = []corev1.Container{{Name: names.ContainerCapture}}
			},
			"spec.initContainers[0].name: the pod already has a container named meshtest-capture, which injection adds",
		},
		"a volume of our name": {
			func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: inject.Volume().Name}} },
			"spec.volumes[0].name: the pod already has a volume named meshtest-secrets, which injection adds",
		},
		"nothing to stand beside": {func(p *corev1.Pod) { p.Spec.Containers = nil }, "spec: the pod has no containers"},
		"all at once": {
			func(p *corev1.Pod) {
				p.Annotations = map[string]string{names.AnnotationExcludeUIDs: "root"}
				p.Spec.Containers[0].SecurityContext = sidecarsUser
			},
			"metadata.annotations[meshtest.dev/exclude-uids]: \"root\" is no user id\n" +
				"spec.containers[0].securityContext.runAsUser: 1337 is the sidecar's user, whose traffic is not captured: choose another one",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pod(tt.edit)
			before := p.DeepCopy()
			_, err := inject.Pod(&p.ObjectMeta, &p.Spec, config())
			require.EqualError(t, err, tt.err)
			require.ErrorAs(t, err, new(inject.Problems))
			require.Equal(t, before, p)
		})
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		edit    func(*corev1.Pod)
		classic bool
		want    []string
	}{
		"nothing": {edit: func(*corev1.Pod) {}},
		"a port of the sidecar": {
			edit: func(p *corev1.Pod) {
				p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 15020}, {ContainerPort: 80}}
			},
			want: []string{"container web: port 15020 is the sidecar's; the application cannot listen there"},
		},
		"scraped already": {
			edit: func(p *corev1.Pod) { p.Annotations = map[string]string{names.AnnotationScrapePort: "9090"} },
			want: []string{"the pod has prometheus.io annotations of its own, which stay: the sidecar's metrics are on port 15020 at /stats/prometheus"},
		},
		"a job": {edit: func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }},
		"a job on an old cluster": {
			edit: func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }, classic: true,
			want: []string{"the pod does not end before its sidecar, which never does; that takes a cluster with native sidecars"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pod(tt.edit)
			c := config()
			c.NativeSidecars = !tt.classic
			result, err := inject.Pod(&p.ObjectMeta, &p.Spec, c)
			require.NoError(t, err)
			require.Equal(t, tt.want, result.Warnings)
			if name == "scraped already" {
				require.Equal(t, "9090", p.Annotations[names.AnnotationScrapePort])
				require.NotContains(t, p.Annotations, names.AnnotationScrape)
			}
		})
	}
}

func TestConfigsThatCannotWork(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		edit func(*inject.Config)
		err  string
	}{
		"image":   {func(c *inject.Config) { c.Image = "" }, "injecting: the sidecar has no image"},
		"control": {func(c *inject.Config) { c.ControlAddress = "control" }, `injecting: "control" is no address of a control plane: want HOST:PORT`},
		"level":   {func(c *inject.Config) { c.LogLevel = "LOUD" }, `injecting: "LOUD" is no log level: want DEBUG, INFO, WARN or ERROR`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := config()
			tt.edit(&c)
			p := pod()
			_, err := inject.Pod(&p.ObjectMeta, &p.Spec, c)
			require.EqualError(t, err, tt.err)
			_, err = inject.Patch(marshal(t, p), c)
			require.EqualError(t, err, tt.err)
			_, _, err = inject.Manifest("", nil, c)
			require.EqualError(t, err, tt.err)
		})
	}
}
