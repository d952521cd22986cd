package inject

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"meshtest.dev/meshtest/env/kube/names"
)

// Template is the version of what is added to a pod; it changes when that does, and stands in the annotation [names.AnnotationStatus].
const Template = "v1"

// volumeName is that of the sidecar's token and authority.
const volumeName = "meshtest-secrets"

// annotationDefaultContainer tells kubectl which container is meant when none is named.
const annotationDefaultContainer = "kubectl.kubernetes.io/default-container"

// Capture is the container that lets the kernel redirect the pod's connections to the sidecar; args are what it excludes.
func Capture(c Config, args ...string) corev1.Container {
	return corev1.Container{
		Name: names.ContainerCapture, Image: c.Image, ImagePullPolicy: corev1.PullIfNotPresent,
		Args: append([]string{"capture"}, args...),
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("16Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")},
		},
		SecurityContext: &corev1.SecurityContext{
			// The pod may say otherwise for all its containers, so everything is said here.
			RunAsUser: new(int64), RunAsGroup: new(int64), RunAsNonRoot: new(bool), Privileged: new(bool), AllowPrivilegeEscalation: new(bool), ReadOnlyRootFilesystem: ptr(true),
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_ADMIN"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
}

// Sidecar is the container that carries a pod's traffic. In a gateway's pod it is the only one. It mounts [Volume].
func Sidecar(c Config) corev1.Container {
	sidecar := corev1.Container{
		Name: names.ContainerSidecar, Image: c.Image, ImagePullPolicy: corev1.PullIfNotPresent,
		Args:  []string{"pod"},
		Ports: []corev1.ContainerPort{{Name: "mesh-metrics", ContainerPort: names.PortMetrics, Protocol: corev1.ProtocolTCP}},
		Env: []corev1.EnvVar{
			fieldVar("POD_NAME", "metadata.name"), fieldVar("POD_NAMESPACE", "metadata.namespace"),
			{Name: "MESHTEST_CONTROL", Value: c.ControlAddress}, {Name: "MESHTEST_RUN", Value: c.RunID},
		},
		// Processor time has no limit: being throttled would look like a slow application. What a sidecar needs of it shows in its metrics.
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("32Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("512Mi")},
		},
		VolumeMounts: []corev1.VolumeMount{{Name: volumeName, MountPath: names.SecretsDir, ReadOnly: true}},
		// The application starts when the sidecar is ready. It waits for a control plane that comes late, as Istio's does, for ten minutes.
		StartupProbe:   readyProbe(1, 600),
		ReadinessProbe: readyProbe(2, 3),
		SecurityContext: &corev1.SecurityContext{
			RunAsUser: ptr(int64(names.UID)), RunAsGroup: ptr(int64(names.UID)), RunAsNonRoot: ptr(true),
			Privileged: new(bool), AllowPrivilegeEscalation: new(bool), ReadOnlyRootFilesystem: ptr(true),
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
	if c.LogLevel != "" {
		sidecar.Env = append(sidecar.Env, corev1.EnvVar{Name: "MESHTEST_LOG_LEVEL", Value: c.LogLevel})
	}
	return sidecar
}

// Volume holds the sidecar's token for the control plane, which the kubelet renews, and the authority that signs the control plane's certificate.
func Volume() corev1.Volume {
	return corev1.Volume{Name: volumeName, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: ptr(int32(0o444)), // the kubelet narrows the token's when the pod's users allow it
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: names.Audience, ExpirationSeconds: ptr(int64(3600)), Path: names.KeyToken}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: names.CA}, Items: []corev1.KeyToPath{{Key: names.KeyCA, Path: names.KeyCA}},
			}},
		},
	}}}
}

// ScrapeAnnotations tell a Prometheus with the customary configuration where the sidecar's metrics are.
func ScrapeAnnotations() map[string]string {
	return map[string]string{
		names.AnnotationScrape: "true", names.AnnotationScrapePort: strconv.Itoa(names.PortMetrics), names.AnnotationScrapePath: names.PathMetrics,
	}
}

func readyProbe(period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: names.PathReady, Port: intstr.FromInt32(names.PortReady)}},
		PeriodSeconds: period, TimeoutSeconds: 3, FailureThreshold: failures,
	}
}

func fieldVar(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
}

func ptr[T any](value T) *T { return &value }
