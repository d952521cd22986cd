package apply

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	testing_ "k8s.io/client-go/testing"

	"meshtest.dev/meshtest/internal/testbubble"
)

const shop = "shop"

func deployment(ready, want int32, conditions ...appsv1.DeploymentCondition) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: shop},
		Spec:       appsv1.DeploymentSpec{Replicas: &want, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
		Status:     appsv1.DeploymentStatus{Replicas: want, UpdatedReplicas: want, ReadyReplicas: ready, Conditions: conditions},
	}
}

func podOf(status corev1.PodStatus) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web-1", Namespace: shop, Labels: map[string]string{"app": "web", batchv1.JobNameLabel: "web"}}, Status: status}
}

func waits(container, reason, message string) corev1.PodStatus {
	return corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
		Name: container, Image: "example/web:2", RestartCount: 2, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 3, Reason: "Error"}},
	}}}
}

// rollout waits for objects that are as given, in the time of a bubble.
func rollout(t *testing.T, wait time.Duration, objects ...runtime.Object) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	began := time.Now()
	err := (&Applier{client: fake.NewClientset(objects...)}).Rollout(ctx, shop, "web")
	return time.Since(began), err
}

func TestARolloutThatNeverEnds(t *testing.T) {
	never := func(kind appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) *appsv1.Deployment {
		return deployment(0, 2, appsv1.DeploymentCondition{Type: kind, Status: status, Reason: reason, Message: message})
	}
	for name, c := range map[string]struct {
		objects     []runtime.Object
		reason      string
		log         []string
		application bool
		patient     bool
	}{
		"no image": {
			objects:     []runtime.Object{deployment(0, 1), podOf(waits("app", "ErrImagePull", "rpc error: example/web:2: not found"))},
			reason:      "image example/web:2 of container app cannot be pulled: rpc error: example/web:2: not found",
			application: true,
		},
		"no registry": {
			objects:     []runtime.Object{deployment(0, 1), podOf(waits("app", "ImagePullBackOff", "connection reset"))},
			reason:      "image example/web:2 of container app cannot be pulled: connection reset",
			application: true, patient: true,
		},
		"an image of ours": {
			objects: []runtime.Object{deployment(0, 1), podOf(waits("meshtest-sidecar", "ErrImageNeverPull", "it is not there"))},
			reason:  "image example/web:2 of container meshtest-sidecar cannot be had: it is not there",
		},
		"crashes": {
			objects:     []runtime.Object{deployment(0, 1), podOf(waits("app", "CrashLoopBackOff", "back-off"))},
			reason:      "container app ends again and again: exit code 3 (Error)",
			log:         []string{"fake logs"},
			application: true,
		},
		"no such secret": {
			objects:     []runtime.Object{deployment(0, 1), podOf(waits("app", "CreateContainerConfigError", `secret "x" not found`))},
			reason:      `container app cannot be started: secret "x" not found`,
			application: true,
		},
		"no room": {
			objects: []runtime.Object{deployment(0, 1), podOf(corev1.PodStatus{Conditions: []corev1.PodCondition{
				{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "0/1 nodes are available: 1 Insufficient cpu."},
			}})},
			reason:  "no node takes pod web-1: 0/1 nodes are available: 1 Insufficient cpu.",
			patient: true,
		},
		"quota": {
			objects: []runtime.Object{never(appsv1.DeploymentReplicaFailure, corev1.ConditionTrue, "FailedCreate", `pods "web-1" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0`)},
			reason:  "its pods are not made: quota q has no room: it needs pods=1, where pods=0 is used of pods=0",
		},
		"webhook that does not answer": {
			objects: []runtime.Object{never(appsv1.DeploymentReplicaFailure, corev1.ConditionTrue, "FailedCreate", `Internal error occurred: failed calling webhook "x": no endpoints`)},
			reason:  "its pods are not made: webhook x has to agree, and does not answer: no endpoints",
			patient: true,
		},
		"given up": {
			objects: []runtime.Object{never(appsv1.DeploymentProgressing, corev1.ConditionFalse, "ProgressDeadlineExceeded", "ReplicaSet has timed out progressing.")},
			reason:  "it made no progress: ReplicaSet has timed out progressing.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) {
				event := &corev1.Event{
					ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: shop}, InvolvedObject: corev1.ObjectReference{Name: "web-1"}, Type: corev1.EventTypeWarning, Reason: "Bad", Message: "it is bad ",
				}
				took, err := rollout(t, time.Hour, append(c.objects, event)...)
				var stuck *StuckError
				require.ErrorAs(t, err, &stuck)
				require.Equal(t, c.reason, stuck.Reason)
				require.Equal(t, c.application, stuck.Application())
				require.Equal(t, c.log, stuck.Log)
				if len(c.objects) > 1 {
					require.Equal(t, []string{"Bad: it is bad"}, stuck.Events)
				}
				if c.patient {
					require.Greater(t, took, patience)
				} else {
					require.Zero(t, took)
				}
			})
		})
	}
}

func TestARolloutEnds(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		client := fake.NewClientset(deployment(1, 2))
		done := make(chan error, 1)
		go func() { done <- (&Applier{client: client}).Rollout(t.Context(), shop, "web") }()
		synctest.Wait()
		require.Empty(t, done)
		_, err := client.AppsV1().Deployments(shop).Update(t.Context(), deployment(2, 2), metav1.UpdateOptions{})
		require.NoError(t, err)
		synctest.Wait() // at once, not at the next look
		require.NoError(t, <-done)
	})
}

func TestARolloutThatTakesTooLong(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		_, err := rollout(t, time.Minute, deployment(1, 2))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "waiting for web, of which 1 of 2 pods are ready")
	})
}

func TestARolloutOfNothing(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		took, err := rollout(t, time.Minute)
		require.True(t, apierrors.IsNotFound(err))
		require.Zero(t, took)
	})
}

func TestAnAPIServerThatIsAway(t *testing.T) {
	t.Parallel()
	for name, comesBack := range map[string]bool{"for a while": true, "for good": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) {
				client := fake.NewClientset(deployment(2, 2))
				began := time.Now()
				client.PrependReactor("get", "deployments", func(testing_.Action) (bool, runtime.Object, error) {
					away := !comesBack || time.Since(began) < 10*time.Second
					return away, nil, errors.New("connection refused")
				})
				err := (&Applier{client: client}).Rollout(t.Context(), shop, "web")
				if comesBack {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, "connection refused")
					require.Greater(t, time.Since(began), patience)
				}
			})
		})
	}
}

func TestJobs(t *testing.T) {
	job := func(s batchv1.JobStatus) *batchv1.Job {
		return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: shop}, Status: s}
	}
	ended := corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 2, Reason: "Error"}}}}}
	for name, c := range map[string]struct {
		objects []runtime.Object
		want    string
	}{
		"done": {objects: []runtime.Object{job(batchv1.JobStatus{Succeeded: 1, Conditions: []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}})}},
		"failed": {
			objects: []runtime.Object{
				job(batchv1.JobStatus{Failed: 1, Conditions: []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, Reason: "BackoffLimitExceeded", Message: "Job has reached the specified backoff limit"}}}),
				podOf(ended),
			},
			want: "web cannot become ready: it failed: Job has reached the specified backoff limit (BackoffLimitExceeded); container app: exit code 2 (Error)\n  | fake logs",
		},
		"not made": {
			objects: []runtime.Object{
				job(batchv1.JobStatus{}),
				&corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: shop}, Type: corev1.EventTypeWarning, Reason: "FailedCreate", Message: `Error creating: pods "web-1" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true`},
			},
			want: "web cannot become ready: its pods are not made: Pod Security restricted:latest refuses it: runAsNonRoot != true",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) {
				err := (&Applier{client: fake.NewClientset(c.objects...)}).JobDone(t.Context(), shop, "web")
				if c.want == "" {
					require.NoError(t, err)
				} else {
					require.EqualError(t, err, c.want)
				}
			})
		})
	}
}

func TestPods(t *testing.T) {
	for name, c := range map[string]struct {
		status corev1.PodStatus
		want   string
	}{
		"ready":   {status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}},
		"evicted": {status: corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "The node was low on resource: memory."}, want: "web-1 cannot become ready: pod web-1 has failed: Evicted The node was low on resource: memory."},
		"ended": {
			status: corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", Message: "no such flag"}}}}},
			want:   "web-1 cannot become ready: container app has ended: exit code 1 (Error): no such flag\n  | fake logs",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) {
				err := (&Applier{client: fake.NewClientset(podOf(c.status))}).PodReady(t.Context(), shop, "web-1")
				if c.want == "" {
					require.NoError(t, err)
				} else {
					require.EqualError(t, err, c.want)
				}
			})
		})
	}
}
