package apply

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
)

// StuckError says that a rollout will not go on by itself, and why.
type StuckError struct {
	Name   string   // of the Deployment
	Reason string   // one sentence
	Events []string // the last ones about it
	Log    []string // the last lines of the container that ends
	ours   bool     // a container of the application itself is the reason
}

func (e *StuckError) Error() string {
	text := e.Name + " cannot become ready: " + e.Reason
	for _, line := range append(slices.Clone(e.Events), e.Log...) {
		text += "\n  | " + line
	}
	return text
}

// Application reports whether the application itself is the reason: its image cannot be had, it ends, or it cannot be started as its manifest says.
func (e *StuckError) Application() bool { return e.ours }

// Times after which something that may yet heal counts as stuck, and between two looks at pods.
const (
	patience = 20 * time.Second
	lookAt   = 500 * time.Millisecond
	lastN    = 8 // events and lines of a log
)

// Rollout returns when all of a Deployment's pods are ready, with a StuckError when they cannot become it. The context's end is reported with the state that the rollout was in.
func (a *Applier) Rollout(ctx context.Context, namespace, name string) error {
	r := &rollout{Applier: a, namespace: namespace, name: name, since: map[string]time.Time{}}
	ticker := time.NewTicker(lookAt)
	defer ticker.Stop()
	changes, stop := r.watch(ctx)
	defer stop()
	for {
		done, err := r.look(ctx)
		if done || (err != nil && ctx.Err() == nil) {
			return err
		}
		select {
		case _, open := <-changes:
			if !open {
				changes = nil // the ticker goes on
			}
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s, of which %s: %w", name, r.state, context.Cause(ctx))
		}
	}
}

// rollout is one that is waited for.
type rollout struct {
	*Applier
	namespace, name string
	state           string               // in words
	since           map[string]time.Time // when a trouble that may heal was seen first
}

// watch signals changes of the Deployment. Without it the rollout is looked at less often.
func (r *rollout) watch(ctx context.Context) (<-chan watch.Event, func()) {
	w, err := r.client.AppsV1().Deployments(r.namespace).Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", r.name).String()})
	if err != nil {
		return nil, func() {}
	}
	return w.ResultChan(), w.Stop
}

func (r *rollout) look(ctx context.Context) (done bool, err error) {
	d, err := r.client.AppsV1().Deployments(r.namespace).Get(ctx, r.name, metav1.GetOptions{})
	if err != nil {
		return false, fmt.Errorf("looking at deployment %s: %w", r.name, err)
	}
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	s := d.Status
	r.state = fmt.Sprintf("%d of %d pods are ready", s.ReadyReplicas, want)
	if s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == want && s.Replicas == want && s.ReadyReplicas == want {
		return true, nil
	}
	if stuck := r.refused(d); stuck != nil {
		return false, stuck
	}
	return false, r.stuckPod(ctx, d)
}

// refused says that the cluster does not let pods be made.
func (r *rollout) refused(d *appsv1.Deployment) *StuckError {
	for _, c := range d.Status.Conditions {
		if c.Type != appsv1.DeploymentReplicaFailure || c.Status != corev1.ConditionTrue {
			continue
		}
		for _, final := range []string{"exceeded quota", "violates PodSecurity", "denied the request", "is forbidden"} {
			if strings.Contains(c.Message, final) {
				return &StuckError{Name: r.name, Reason: "the cluster refuses its pods: " + c.Message}
			}
		}
		if r.longEnough(c.Message) {
			return &StuckError{Name: r.name, Reason: "its pods cannot be made: " + c.Message}
		}
	}
	return nil
}

// longEnough reports whether a trouble that may heal has been there for too long.
func (r *rollout) longEnough(trouble string) bool {
	first, seen := r.since[trouble]
	if !seen {
		r.since[trouble] = time.Now()
		return false
	}
	return time.Since(first) > patience
}

// stuckPod looks for a pod that will not become ready by itself.
func (r *rollout) stuckPod(ctx context.Context, d *appsv1.Deployment) error {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return fmt.Errorf("deployment %s: %w", r.name, err)
	}
	pods, err := r.client.CoreV1().Pods(r.namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return fmt.Errorf("listing pods of %s: %w", r.name, err)
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		stuck, container := r.diagnose(p)
		if stuck == nil {
			continue
		}
		stuck.Events = r.events(ctx, func(name string) bool { return name == p.Name })
		if container != "" {
			stuck.Log = r.tail(ctx, p, container)
		}
		return stuck
	}
	return nil
}

// diagnose says why a pod is stuck; the container is the one whose log tells more.
func (r *rollout) diagnose(p *corev1.Pod) (stuck *StuckError, container string) {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable && r.longEnough(p.Name+c.Message) {
			return &StuckError{Name: r.name, Reason: "no node takes pod " + p.Name + ": " + c.Message}, ""
		}
	}
	for _, c := range append(slices.Clone(p.Status.InitContainerStatuses), p.Status.ContainerStatuses...) {
		mine := !strings.HasPrefix(c.Name, "meshtest-")
		if w := c.State.Waiting; w != nil {
			switch w.Reason {
			case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull":
				return &StuckError{Name: r.name, Reason: fmt.Sprintf("image %s of container %s cannot be had: %s", c.Image, c.Name, w.Message), ours: mine}, ""
			case "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
				return &StuckError{Name: r.name, Reason: fmt.Sprintf("container %s cannot be started: %s", c.Name, w.Message), ours: mine}, ""
			case "CrashLoopBackOff":
				return &StuckError{Name: r.name, Reason: fmt.Sprintf("container %s ends again and again: %s", c.Name, howEnded(c)), ours: mine}, c.Name
			}
		}
	}
	return nil, ""
}

func howEnded(c corev1.ContainerStatus) string {
	for _, state := range []corev1.ContainerState{c.State, c.LastTerminationState} {
		if t := state.Terminated; t != nil {
			return fmt.Sprintf("exit code %d (%s)", t.ExitCode, t.Reason)
		}
	}
	return "nobody knows how"
}

// events are the last ones about objects with such a name. What cannot be had is left out: there is an error to report already.
func (r *rollout) events(ctx context.Context, about func(name string) bool) []string {
	list, err := r.client.CoreV1().Events(r.namespace).List(ctx, metav1.ListOptions{Limit: 500})
	if err != nil {
		return nil
	}
	slices.SortStableFunc(list.Items, func(a, b corev1.Event) int { return a.LastTimestamp.Compare(b.LastTimestamp.Time) })
	var lines []string
	for _, e := range list.Items {
		if about(e.InvolvedObject.Name) && e.Type == corev1.EventTypeWarning {
			lines = append(lines, e.Reason+": "+strings.TrimSpace(e.Message))
		}
	}
	lines = slices.Compact(lines)
	return lines[max(0, len(lines)-lastN):]
}

// tail are the last lines that a container wrote in its last life.
func (r *rollout) tail(ctx context.Context, p *corev1.Pod, container string) []string {
	n := int64(lastN)
	for _, previous := range []bool{true, false} {
		stream, err := r.client.CoreV1().Pods(r.namespace).GetLogs(p.Name, &corev1.PodLogOptions{Container: container, Previous: previous, TailLines: &n}).Stream(ctx)
		if err != nil {
			continue
		}
		lines := readLines(stream)
		stream.Close()
		if len(lines) > 0 {
			return lines
		}
	}
	return nil
}

func readLines(r io.Reader) []string {
	var lines []string
	for scanner := bufio.NewScanner(io.LimitReader(r, 64<<10)); scanner.Scan(); {
		lines = append(lines, scanner.Text())
	}
	return lines
}
