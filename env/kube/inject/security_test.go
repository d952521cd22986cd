package inject_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"meshtest.dev/meshtest/env/kube/inject"
	"meshtest.dev/meshtest/env/kube/names"
)

// violated are the controls of the latest Pod Security Standard that a pod does not satisfy, and why, each at the level that it belongs to.
func violated(t *testing.T, level api.Level, p *corev1.Pod) map[policy.CheckID]string {
	t.Helper()
	checks := policy.DefaultChecks()
	found := map[policy.CheckID]string{}
	for _, check := range checks {
		if level == api.LevelBaseline && check.Level != api.LevelBaseline {
			continue
		}
		latest := slices.MaxFunc(check.Versions, func(a, b policy.VersionedCheck) int {
			if a.MinimumVersion.Older(b.MinimumVersion) {
				return -1
			}
			return 1
		})
		if r := latest.CheckPod(&p.ObjectMeta, &p.Spec); !r.Allowed {
			found[check.ID] = r.ForbiddenDetail
		}
	}
	return found
}

// secure is a pod that satisfies the restricted standard.
func secure() *corev1.Pod {
	return pod(func(p *corev1.Pod) {
		p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(bool), RunAsNonRoot: ptr(true), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		}
	})
}

// The capture container is the only one that needs more than the restricted standard allows; what it needs is listed here, and nowhere more.
func TestOnlyTheCaptureContainerIsPrivileged(t *testing.T) {
	t.Parallel()
	for _, native := range []bool{true, false} {
		t.Run(fmt.Sprintf("native=%v", native), func(t *testing.T) {
			t.Parallel()
			c := config()
			c.NativeSidecars = native
			p := secure()
			require.Empty(t, violated(t, api.LevelRestricted, p))
			_, err := inject.Pod(&p.ObjectMeta, &p.Spec, c)
			require.NoError(t, err)
			require.Equal(t, map[policy.CheckID]string{
				"capabilities_baseline":   `container "meshtest-capture" must not include "NET_ADMIN" in securityContext.capabilities.add`,
				"capabilities_restricted": `container "meshtest-capture" must not include "NET_ADMIN" in securityContext.capabilities.add`,
				"runAsNonRoot":            `container "meshtest-capture" must not set securityContext.runAsNonRoot=false`,
				"runAsUser":               `container "meshtest-capture" must not set runAsUser=0`,
			}, violated(t, api.LevelRestricted, p))
			require.Len(t, violated(t, api.LevelBaseline, p), 1)

			p.Spec.InitContainers = slices.DeleteFunc(p.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == names.ContainerCapture })
			require.Empty(t, violated(t, api.LevelRestricted, p), "everything else that is added")
		})
	}
}

// The containers hold for themselves, whatever the pod says for all of its own.
func TestThePodsSettingsDoNotReachOurContainers(t *testing.T) {
	t.Parallel()
	p := secure()
	p.Spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsUser: ptr(int64(0)), RunAsGroup: ptr(int64(0)), RunAsNonRoot: ptr(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined},
	}
	_, err := inject.Pod(&p.ObjectMeta, &p.Spec, config())
	require.NoError(t, err)
	for _, c := range p.Spec.InitContainers {
		s := c.SecurityContext
		require.True(t, *s.ReadOnlyRootFilesystem, c.Name)
		require.False(t, *s.AllowPrivilegeEscalation, c.Name)
		require.False(t, *s.Privileged, c.Name)
		require.Equal(t, []corev1.Capability{"ALL"}, s.Capabilities.Drop, c.Name)
		require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, s.SeccompProfile.Type, c.Name)
		user := map[string]int64{names.ContainerCapture: 0, names.ContainerSidecar: names.UID}[c.Name]
		require.Equal(t, user, *s.RunAsUser, c.Name)
		require.Equal(t, user, *s.RunAsGroup, c.Name)
		require.Equal(t, user != 0, *s.RunAsNonRoot, c.Name)
	}
}
