package inject_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"meshtest.dev/meshtest/env/kube/inject"
	"meshtest.dev/meshtest/env/kube/names"
)

// pod is a pod as users write them; edit makes it another one.
func pod(edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "nginx"}}},
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func marshal(t *testing.T, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	require.NoError(t, err)
	return text
}

// patched is the pod after Patch, as JSON.
func patched(t *testing.T, before []byte, c inject.Config) []byte {
	t.Helper()
	text, err := inject.Patch(before, c)
	require.NoError(t, err)
	if text == nil {
		return before
	}
	patch, err := jsonpatch.DecodePatch(text)
	require.NoError(t, err)
	after, err := patch.Apply(before)
	require.NoError(t, err)
	return after
}

// The pods whose injection is compared: what there can be in them that injection touches.
var pods = map[string]*corev1.Pod{
	"plain":          pod(),
	"no labels":      pod(func(p *corev1.Pod) { p.Labels = nil }),
	"generated name": pod(func(p *corev1.Pod) { p.Name, p.GenerateName = "", "web-" }),
	"everything": pod(func(p *corev1.Pod) {
		p.Annotations = map[string]string{"example.com/a": "x", names.AnnotationExcludeInboundPorts: "9090, 9091", names.IstioExcludeInboundPorts: "22"}
		p.Spec.InitContainers = []corev1.Container{{Name: "wait", Image: "busybox"}, {Name: "other", Image: "busybox", RestartPolicy: ptr(corev1.ContainerRestartPolicyAlways)}}
		p.Spec.Volumes = []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: ptr(true), RunAsUser: ptr(int64(1000)), FSGroup: ptr(int64(1337))}
	}),
	"not escaped":  pod(func(p *corev1.Pod) { p.Annotations = map[string]string{"a~1/b~0": "x", "prometheus.io~1path": "y"} }),
	"opted out":    pod(func(p *corev1.Pod) { p.Labels[names.LabelInject] = names.Disabled }),
	"host network": pod(func(p *corev1.Pod) { p.Spec.HostNetwork = true }),
}

func ptr[T any](v T) *T { return &v }

// Every kind of workload gets the same by a file as a pod of its template gets by admission, and as Pod gives in memory.
func TestEveryWayGivesTheSame(t *testing.T) {
	t.Parallel()
	template := func(p *corev1.Pod) map[string]any { return map[string]any{"metadata": p.ObjectMeta, "spec": p.Spec} }
	meta := map[string]any{"name": "web", "namespace": "shop"}
	kinds := map[string]func(*corev1.Pod) (object map[string]any, at []string){
		"v1/Pod": func(p *corev1.Pod) (map[string]any, []string) { return template(p), nil },
		"v1/PodTemplate": func(p *corev1.Pod) (map[string]any, []string) {
			return map[string]any{"metadata": meta, "template": template(p)}, []string{"template"}
		},
		"batch/v1/CronJob": func(p *corev1.Pod) (map[string]any, []string) {
			job := map[string]any{"spec": map[string]any{"template": template(p)}}
			return map[string]any{"metadata": meta, "spec": map[string]any{"jobTemplate": job}}, []string{"spec", "jobTemplate", "spec", "template"}
		},
	}
	for _, kind := range []string{"v1/ReplicationController", "apps/v1/Deployment", "apps/v1/StatefulSet", "apps/v1/DaemonSet", "apps/v1/ReplicaSet", "extensions/v1beta1/Deployment", "batch/v1/Job"} {
		kinds[kind] = func(p *corev1.Pod) (map[string]any, []string) {
			return map[string]any{"metadata": meta, "spec": map[string]any{"template": template(p)}}, []string{"spec", "template"}
		}
	}
	for kind, make := range kinds {
		for name, p := range pods {
			for _, native := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%s/native=%v", kind, name, native), func(t *testing.T) {
					t.Parallel()
					c := config()
					c.NativeSidecars = native
					object, at := make(p)
					object["apiVersion"], object["kind"] = path.Dir(kind), path.Base(kind)

					want := value(t, patched(t, marshal(t, p), c))
					for _, field := range []string{"apiVersion", "kind", "status"} { // templates have none
						delete(want, field)
					}

					for format, text := range formats(t, object) {
						out, notes, err := inject.Manifest("", text, c)
						require.NoError(t, err)
						require.Len(t, notes, 1)
						var got any = value(t, out)
						if at == nil {
							delete(got.(map[string]any), "apiVersion")
							delete(got.(map[string]any), "kind")
						}
						for _, step := range at {
							got = got.(map[string]any)[step]
						}
						require.Equal(t, want, got, format)
					}

					inMemory := p.DeepCopy()
					result, err := inject.Pod(&inMemory.ObjectMeta, &inMemory.Spec, c)
					require.NoError(t, err)
					require.Equal(t, name == "opted out" || name == "host network", result.Skipped != "")
					require.Equal(t, want, value(t, marshal(t, template(inMemory))))
				})
			}
		}
	}
}

func value(t *testing.T, text []byte) (object map[string]any) {
	t.Helper()
	require.NoError(t, yaml.Unmarshal(text, &object))
	return object
}

func formats(t *testing.T, object any) map[string][]byte {
	t.Helper()
	asYAML, err := yaml.Marshal(object)
	require.NoError(t, err)
	indented, err := json.MarshalIndent(object, "", "    ")
	require.NoError(t, err)
	return map[string][]byte{"YAML": asYAML, "JSON": marshal(t, object), "indented JSON": indented}
}

// Nothing of the application's own changes: without what was added, the pod is what it was.
func TestTheApplicationStaysAsItIs(t *testing.T) {
	t.Parallel()
	for name, before := range pods {
		for _, native := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/native=%v", name, native), func(t *testing.T) {
				t.Parallel()
				c := config()
				c.NativeSidecars = native
				after := before.DeepCopy()
				_, err := inject.Pod(&after.ObjectMeta, &after.Spec, c)
				require.NoError(t, err)
				ours := func(c corev1.Container) bool {
					return c.Name == names.ContainerCapture || c.Name == names.ContainerSidecar
				}
				after.Spec.InitContainers = slices.DeleteFunc(after.Spec.InitContainers, ours)
				after.Spec.Containers = slices.DeleteFunc(after.Spec.Containers, ours)
				after.Spec.Volumes = slices.DeleteFunc(after.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == inject.Volume().Name })
				maps.DeleteFunc(after.Annotations, func(key, _ string) bool {
					_, scrape := inject.ScrapeAnnotations()[key]
					return scrape || key == names.AnnotationStatus || key == "kubectl.kubernetes.io/default-container"
				})
				require.JSONEq(t, string(marshal(t, normal(before))), string(marshal(t, normal(after))))
			})
		}
	}
}

// normal has no empty lists and maps.
func normal(p *corev1.Pod) *corev1.Pod {
	p = p.DeepCopy()
	if len(p.Annotations) == 0 {
		p.Annotations = nil
	}
	return p
}

func TestOrder(t *testing.T) {
	t.Parallel()
	listed := func(all []corev1.Container) (found []string) {
		for _, c := range all {
			found = append(found, c.Name)
		}
		return found
	}
	for _, tt := range []struct {
		native          bool
		init, ordinary  []string
		restarts        bool
		defaultsToWebIn bool
	}{
		{true, []string{names.ContainerCapture, names.ContainerSidecar, "wait", "other"}, []string{"web"}, true, false},
		{false, []string{"wait", "other", names.ContainerCapture}, []string{names.ContainerSidecar, "web"}, false, true},
	} {
		t.Run(fmt.Sprintf("native=%v", tt.native), func(t *testing.T) {
			t.Parallel()
			c := config()
			c.NativeSidecars = tt.native
			p := pods["everything"].DeepCopy()
			_, err := inject.Pod(&p.ObjectMeta, &p.Spec, c)
			require.NoError(t, err)
			require.Equal(t, tt.init, listed(p.Spec.InitContainers))
			require.Equal(t, tt.ordinary, listed(p.Spec.Containers))
			sidecar := append(slices.Clone(p.Spec.InitContainers), p.Spec.Containers...)
			i := slices.IndexFunc(sidecar, func(c corev1.Container) bool { return c.Name == names.ContainerSidecar })
			require.Equal(t, tt.restarts, sidecar[i].RestartPolicy != nil)
			_, has := p.Annotations["kubectl.kubernetes.io/default-container"]
			require.Equal(t, tt.defaultsToWebIn, has)
			require.Equal(t, inject.Template, p.Annotations[names.AnnotationStatus])
		})
	}
}

func TestInjectingTwiceIsInjectingOnce(t *testing.T) {
	t.Parallel()
	for _, native := range []bool{true, false} {
		c := config()
		c.NativeSidecars = native
		once := patched(t, marshal(t, pods["everything"]), c)
		again, err := inject.Patch(once, c)
		require.NoError(t, err)
		require.Nil(t, again)

		text := []byte("# web\n" + string(formats(t, pods["everything"])["YAML"]))
		first, _, err := inject.Manifest("", text, c)
		require.NoError(t, err)
		second, notes, err := inject.Manifest("", first, c)
		require.NoError(t, err)
		require.Equal(t, string(first), string(second))
		require.Equal(t, "the pod has been injected", notes[0].Skipped)
	}
}

func TestExclusions(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		annotations map[string]string
		args        []string
		err         string
	}{
		"none": {nil, []string{"capture"}, ""},
		"ours": {map[string]string{
			names.AnnotationExcludeInboundPorts: "22,8443", names.AnnotationExcludeOutboundPorts: " 3306 ,5432,",
			names.AnnotationExcludeOutboundCIDRs: "10.1.2.3/8,fd00::/8,192.0.2.1", names.AnnotationExcludeUIDs: "0,4294967295",
		}, []string{
			"capture", "--exclude-inbound-ports=22,8443", "--exclude-outbound-ports=3306,5432", "--exclude-outbound-cidrs=10.0.0.0/8,fd00::/8,192.0.2.1/32", "--exclude-uids=0,4294967295",
		}, ""},
		"Istio's and ours together": {map[string]string{
			names.IstioExcludeInboundPorts: "22", names.IstioExcludeOutboundPorts: "3306", names.AnnotationExcludeOutboundPorts: "5432", names.IstioExcludeOutboundIPRange: "10.0.0.0/8",
		}, []string{"capture", "--exclude-inbound-ports=22", "--exclude-outbound-ports=5432,3306", "--exclude-outbound-cidrs=10.0.0.0/8"}, ""},
		"empty":       {map[string]string{names.AnnotationExcludeInboundPorts: ""}, []string{"capture"}, ""},
		"no port":     {map[string]string{names.AnnotationExcludeInboundPorts: "22,http"}, nil, `metadata.annotations[meshtest.dev/exclude-inbound-ports]: "http" is no port between 1 and 65535`},
		"port 0":      {map[string]string{names.AnnotationExcludeOutboundPorts: "0"}, nil, `metadata.annotations[meshtest.dev/exclude-outbound-ports]: "0" is no port between 1 and 65535`},
		"port 65536":  {map[string]string{names.IstioExcludeOutboundPorts: "65536"}, nil, `metadata.annotations[traffic.sidecar.istio.io/excludeOutboundPorts]: "65536" is no port between 1 and 65535`},
		"no range":    {map[string]string{names.IstioExcludeOutboundIPRange: "10.0.0.0/40"}, nil, `metadata.annotations[traffic.sidecar.istio.io/excludeOutboundIPRanges]: "10.0.0.0/40" is no range of addresses such as 10.0.0.0/8`},
		"a star":      {map[string]string{names.AnnotationExcludeOutboundCIDRs: "*"}, nil, `metadata.annotations[meshtest.dev/exclude-outbound-cidrs]: "*" is no range of addresses such as 10.0.0.0/8`},
		"a flag":      {map[string]string{names.AnnotationExcludeUIDs: "--remove"}, nil, `metadata.annotations[meshtest.dev/exclude-uids]: "--remove" is no user id`},
		"negative":    {map[string]string{names.AnnotationExcludeUIDs: "-1"}, nil, `metadata.annotations[meshtest.dev/exclude-uids]: "-1" is no user id`},
		"all at once": {map[string]string{names.AnnotationExcludeUIDs: "a", names.AnnotationExcludeInboundPorts: "b,c"}, nil, "metadata.annotations[meshtest.dev/exclude-inbound-ports]: \"b\" is no port between 1 and 65535\nmetadata.annotations[meshtest.dev/exclude-inbound-ports]: \"c\" is no port between 1 and 65535\nmetadata.annotations[meshtest.dev/exclude-uids]: \"a\" is no user id"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pod(func(p *corev1.Pod) { p.Annotations = tt.annotations })
			_, err := inject.Pod(&p.ObjectMeta, &p.Spec, config())
			if tt.err != "" {
				require.EqualError(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.args, p.Spec.InitContainers[0].Args)
		})
	}
}
