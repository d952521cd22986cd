package inject

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/proxy/capture"
)

// decision is what is done with a pod.
type decision struct {
	Result
	edits edits
}

// decide says what is added to a pod in a namespace, or why nothing is. It returns Problems when the pod is refused.
func decide(p *corev1.PodTemplateSpec, namespace string, c Config) (decision, error) {
	if reason, warn := skip(p, namespace, c); reason != "" {
		d := decision{Result: Result{Skipped: reason}}
		if warn {
			d.Warnings = []string{"no sidecar: " + reason}
		}
		return d, nil
	}
	args, problems := excludeArgs(p.Annotations)
	if problems = append(problems, refuse(&p.Spec)...); len(problems) > 0 {
		return decision{}, problems
	}
	return decision{Result{Warnings: warnings(p, c)}, additions(p, c, args)}, nil
}

// ownNamespaces are Kubernetes' own.
var ownNamespaces = []string{metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease}

// skip says why a pod is left alone; empty: it is not. What its owner may not have meant is worth a warning.
func skip(p *corev1.PodTemplateSpec, namespace string, c Config) (reason string, warn bool) {
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	switch {
	case injected(p):
		return "the pod has been injected", false
	case p.Labels[names.LabelRole] != "":
		return "the pod is of the mesh itself", false
	case optsOut(p):
		return "the pod opts out", false
	case slices.Contains(ownNamespaces, namespace):
		return "namespace " + namespace + " is Kubernetes' own", false
	case len(c.Namespaces) > 0 && !slices.Contains(c.Namespaces, namespace):
		return "namespace " + namespace + " does not opt in", false
	case p.Spec.HostNetwork:
		return "the pod shares its node's network, where capturing traffic would capture everybody's", true
	case p.Spec.OS != nil && p.Spec.OS.Name == corev1.Windows:
		return "the pod runs Windows", true
	}
	return "", false
}

// optsOut reports whether a label or annotation asks for no sidecar.
func optsOut(p *corev1.PodTemplateSpec) bool {
	for _, from := range []map[string]string{p.Labels, p.Annotations} {
		if strings.EqualFold(from[names.LabelInject], names.Disabled) || slices.Contains([]string{"false", "no", "n", "off"}, strings.ToLower(from[names.IstioInject])) {
			return true
		}
	}
	return false
}

// injected reports whether the pod has both of our containers, and says that they are ours.
func injected(p *corev1.PodTemplateSpec) bool {
	var found []string
	for _, c := range containers(&p.Spec) {
		found = append(found, c.Name)
	}
	return p.Annotations[names.AnnotationStatus] != "" && slices.Contains(found, names.ContainerCapture) && slices.Contains(found, names.ContainerSidecar)
}

// located is a container at its place.
type located struct {
	*corev1.Container
	path Path
}

// containers are those of the application: init containers, then ordinary ones.
func containers(spec *corev1.PodSpec) (all []located) {
	for i := range spec.InitContainers {
		all = append(all, located{&spec.InitContainers[i], Path{"spec", "initContainers", i}})
	}
	for i := range spec.Containers {
		all = append(all, located{&spec.Containers[i], Path{"spec", "containers", i}})
	}
	return all
}

// refuse says why a pod cannot work with a sidecar.
func refuse(spec *corev1.PodSpec) (problems Problems) {
	no := func(path Path, format string, args ...any) {
		problems = append(problems, Problem{Path: path, Message: fmt.Sprintf(format, args...)})
	}
	if len(spec.Containers) == 0 {
		no(Path{"spec"}, "the pod has no containers")
	}
	const reserved = "%d is the sidecar's %s, whose traffic is not captured: choose another one"
	isReserved := func(id *int64) bool { return id != nil && *id == names.UID }
	if s := spec.SecurityContext; s != nil {
		if isReserved(s.RunAsUser) {
			no(Path{"spec", "securityContext", "runAsUser"}, reserved, names.UID, "user")
		}
		if isReserved(s.RunAsGroup) {
			no(Path{"spec", "securityContext", "runAsGroup"}, reserved, names.UID, "group")
		}
	}
	for _, c := range containers(spec) {
		if c.Name == names.ContainerCapture || c.Name == names.ContainerSidecar {
			no(c.path.join("name"), "the pod already has a container named %s, which injection adds", c.Name)
		}
		if s := c.SecurityContext; s != nil {
			if isReserved(s.RunAsUser) {
				no(c.path.join("securityContext", "runAsUser"), reserved, names.UID, "user")
			}
			if isReserved(s.RunAsGroup) {
				no(c.path.join("securityContext", "runAsGroup"), reserved, names.UID, "group")
			}
		}
	}
	for i, v := range spec.Volumes {
		if v.Name == volumeName {
			no(Path{"spec", "volumes", i, "name"}, "the pod already has a volume named %s, which injection adds", volumeName)
		}
	}
	return problems
}

// warnings are what works, but perhaps not as the pod's owner thinks.
func warnings(p *corev1.PodTemplateSpec, c Config) (all []string) {
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for _, container := range containers(&p.Spec) {
		for _, port := range container.Ports {
			if slices.Contains(capture.SidecarPorts(), int(port.ContainerPort)) {
				say("container %s: port %d is the sidecar's; the application cannot listen there", container.Name, port.ContainerPort)
			}
		}
	}
	if scraped(p.Annotations) {
		say("the pod has prometheus.io annotations of its own, which stay: the sidecar's metrics are on port %d at %s", names.PortMetrics, names.PathMetrics)
	}
	if !c.NativeSidecars && p.Spec.RestartPolicy != "" && p.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		say("the pod does not end before its sidecar, which never does; that takes a cluster with native sidecars")
	}
	return all
}

// scraped reports whether the pod says itself what Prometheus should scrape.
func scraped(annotations map[string]string) bool {
	for key := range ScrapeAnnotations() {
		if _, ok := annotations[key]; ok {
			return true
		}
	}
	return false
}

// additions are what a pod gets.
func additions(p *corev1.PodTemplateSpec, c Config, excluded []string) edits {
	annotations := map[string]string{names.AnnotationStatus: Template}
	if !scraped(p.Annotations) {
		maps.Copy(annotations, ScrapeAnnotations())
	}
	grab, sidecar := Capture(c, excluded...), Sidecar(c)
	var all edits
	if c.NativeSidecars {
		sidecar.RestartPolicy = ptr(corev1.ContainerRestartPolicyAlways)
		all = edits{prepend("initContainers", grab, sidecar)}
	} else {
		if _, ok := p.Annotations[annotationDefaultContainer]; !ok {
			annotations[annotationDefaultContainer] = p.Spec.Containers[0].Name
		}
		all = edits{appendTo("initContainers", grab), prepend("containers", sidecar)}
	}
	return append(edits{annotate(annotations)}, append(all, prepend("volumes", Volume()))...)
}
