package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// StuckError says that something will not become ready by itself, and why.
type StuckError struct {
	Name   string   // of the Deployment, Job or Pod
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

const (
	patience = 20 * time.Second // after which something that may yet heal counts as stuck
	recheck  = 5 * time.Second  // between two looks when nothing changes: patience may have ended
	lastN    = 8                // events and lines of a log
)

// Rollout returns when all of a Deployment's pods are ready, with a *StuckError when they cannot become it. The context's end is reported with the state that the rollout was in.
func (a *Applier) Rollout(ctx context.Context, namespace, name string) error {
	w := a.waiting(namespace, name)
	pods := metav1.ListOptions{}
	if d, err := a.client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{}); err == nil { // otherwise the first look says so
		pods.LabelSelector = metav1.FormatLabelSelector(d.Spec.Selector)
	}
	return w.wait(ctx, w.deployment, watched{a.client.AppsV1().Deployments(namespace), named(name)}, watched{a.client.CoreV1().Pods(namespace), pods})
}

// JobDone returns when a Job has completed, with a *StuckError when it failed or cannot begin.
func (a *Applier) JobDone(ctx context.Context, namespace, name string) error {
	w := a.waiting(namespace, name)
	return w.wait(ctx, w.job, watched{a.client.BatchV1().Jobs(namespace), named(name)}, watched{a.client.CoreV1().Pods(namespace), ofJob(name)})
}

// PodReady returns when a pod is ready, with a *StuckError when it cannot become it.
func (a *Applier) PodReady(ctx context.Context, namespace, name string) error {
	w := a.waiting(namespace, name)
	return w.wait(ctx, w.pod, watched{a.client.CoreV1().Pods(namespace), named(name)})
}

func (a *Applier) waiting(namespace, name string) *waiter {
	return &waiter{Applier: a, namespace: namespace, name: name, state: "nothing is known yet", since: map[string]time.Time{}}
}

// waiter waits for one object.
type waiter struct {
	*Applier
	namespace, name string
	state           string               // in words
	since           map[string]time.Time // when a trouble that may heal was seen first
}

// watched is what may change what is waited for.
type watched struct {
	in      watcher
	options metav1.ListOptions
}

// wait looks whenever something has changed, until it is done or cannot be.
func (w *waiter) wait(ctx context.Context, look func(context.Context) (bool, error), all ...watched) error {
	watching, stop := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer stop()
	changed := make(chan struct{}, 1)
	for _, one := range all {
		watchers.Go(func() { signal(watching, one.in, one.options, changed) })
	}
	ticker := time.NewTicker(recheck)
	defer ticker.Stop()
	for {
		done, err := look(ctx)
		if done || (err != nil && ctx.Err() == nil && !w.mayPass(err)) {
			return err
		}
		select {
		case <-changed:
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s, of which %s: %w", w.name, w.state, context.Cause(ctx))
		}
	}
}

// mayPass reports whether an error is the API server's, which may answer again; but not for ever.
func (w *waiter) mayPass(err error) bool {
	if stuck := (*StuckError)(nil); errors.As(err, &stuck) {
		return false
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Code < 500 && !apierrors.IsTooManyRequests(err) {
		return false
	}
	w.state = "the last that was heard is: " + sentence(err)
	return !w.longEnough("the API server")
}

// longEnough reports whether a trouble that may heal has been there for too long.
func (w *waiter) longEnough(trouble string) bool {
	first, seen := w.since[trouble]
	if !seen {
		w.since[trouble] = time.Now()
		return false
	}
	return time.Since(first) > patience
}

func (w *waiter) deployment(ctx context.Context) (done bool, err error) {
	d, err := w.client.AppsV1().Deployments(w.namespace).Get(ctx, w.name, metav1.GetOptions{})
	if err != nil {
		return false, fmt.Errorf("looking at deployment %s: %w", w.name, err)
	}
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	s := d.Status
	w.state = fmt.Sprintf("%d of %d pods are ready", s.ReadyReplicas, want)
	if s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == want && s.Replicas == want && s.ReadyReplicas == want {
		return true, nil
	}
	for _, c := range d.Status.Conditions {
		if err := w.badCondition(c); err != nil {
			return false, err
		}
	}
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return false, fmt.Errorf("deployment %s: %w", w.name, err)
	}
	return false, w.stuckPods(ctx, metav1.ListOptions{LabelSelector: selector.String()})
}

// badCondition says that the cluster does not let pods be made, or that the Deployment has given up.
func (w *waiter) badCondition(c appsv1.DeploymentCondition) error {
	switch {
	case c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue:
		return w.notMade(c.Message)
	case c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse && c.Reason == "ProgressDeadlineExceeded":
		return &StuckError{Name: w.name, Reason: "it made no progress: " + c.Message}
	}
	return nil
}

// notMade says why pods are not made, when that is final or has been so for long.
func (w *waiter) notMade(message string) error {
	text, final := admission(message)
	if !final && !w.longEnough(text) {
		return nil
	}
	return &StuckError{Name: w.name, Reason: "its pods are not made: " + text}
}

// ofJob selects the pods of a Job.
func ofJob(name string) metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + name}
}

func (w *waiter) job(ctx context.Context) (done bool, err error) {
	j, err := w.client.BatchV1().Jobs(w.namespace).Get(ctx, w.name, metav1.GetOptions{})
	if err != nil {
		return false, fmt.Errorf("looking at job %s: %w", w.name, err)
	}
	w.state = fmt.Sprintf("%d pods run, %d succeeded, %d failed", j.Status.Active, j.Status.Succeeded, j.Status.Failed)
	for _, c := range j.Status.Conditions {
		switch {
		case c.Status != corev1.ConditionTrue:
		case c.Type == batchv1.JobComplete:
			return true, nil
		case c.Type == batchv1.JobFailed:
			return false, w.failedJob(ctx, c)
		}
	}
	if j.Status.Active+j.Status.Succeeded+j.Status.Failed == 0 {
		for _, e := range w.warnings(ctx, w.name) {
			if e.Reason == "FailedCreate" {
				return false, w.notMade(e.Message)
			}
		}
	}
	return false, w.stuckPods(ctx, ofJob(w.name))
}

// failedJob shows how the last of its pods ended.
func (w *waiter) failedJob(ctx context.Context, c batchv1.JobCondition) error {
	stuck := &StuckError{Name: w.name, Reason: fmt.Sprintf("it failed: %s (%s)", c.Message, c.Reason), ours: true}
	list, err := w.client.CoreV1().Pods(w.namespace).List(ctx, ofJob(w.name))
	if err != nil || len(list.Items) == 0 {
		return stuck // there is an error to report already
	}
	last := slices.MaxFunc(list.Items, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	for _, s := range last.Status.ContainerStatuses {
		if s.State.Terminated != nil && s.State.Terminated.ExitCode != 0 {
			stuck.Reason += fmt.Sprintf("; container %s: %s", s.Name, howEnded(s))
			stuck.Log = w.tail(ctx, &last, s.Name)
			break
		}
	}
	return stuck
}

func (w *waiter) pod(ctx context.Context) (done bool, err error) {
	p, err := w.client.CoreV1().Pods(w.namespace).Get(ctx, w.name, metav1.GetOptions{})
	if err != nil {
		return false, fmt.Errorf("looking at pod %s: %w", w.name, err)
	}
	w.state = "the phase is " + strings.ToLower(string(p.Status.Phase))
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return true, nil
		}
	}
	return false, w.stuckPod(ctx, p)
}

// stuckPods looks for a pod that will not become ready by itself.
func (w *waiter) stuckPods(ctx context.Context, of metav1.ListOptions) error {
	pods, err := w.client.CoreV1().Pods(w.namespace).List(ctx, of)
	if err != nil {
		return fmt.Errorf("listing pods of %s: %w", w.name, err)
	}
	for i := range pods.Items {
		if p := &pods.Items[i]; p.DeletionTimestamp == nil {
			if err := w.stuckPod(ctx, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// stuckPod says why a pod will not become ready, with what it said last.
func (w *waiter) stuckPod(ctx context.Context, p *corev1.Pod) error {
	t := diagnose(p)
	if t == nil || (!t.final && !w.longEnough(p.Name+t.reason)) {
		return nil
	}
	stuck := &StuckError{Name: w.name, Reason: t.reason, ours: t.container != "" && !strings.HasPrefix(t.container, "meshtest-")}
	for _, e := range w.warnings(ctx, p.Name) {
		stuck.Events = append(stuck.Events, e.Reason+": "+strings.TrimSpace(e.Message))
	}
	stuck.Events = lastOf(slices.Compact(stuck.Events))
	if t.ends {
		stuck.Log = w.tail(ctx, p, t.container)
	}
	return stuck
}

// warnings are the events about an object that say that something is wrong, oldest first. What cannot be had is left out: there is an error to report already.
func (w *waiter) warnings(ctx context.Context, name string) []corev1.Event {
	about := fields.Set{"involvedObject.name": name, "type": corev1.EventTypeWarning}.AsSelector().String()
	list, err := w.client.CoreV1().Events(w.namespace).List(ctx, metav1.ListOptions{FieldSelector: about})
	if err != nil {
		return nil
	}
	slices.SortStableFunc(list.Items, func(a, b corev1.Event) int { return happened(a).Compare(happened(b)) })
	return list.Items
}

// happened is when an event was last seen; there are several ways to say it.
func happened(e corev1.Event) time.Time {
	for _, t := range []time.Time{e.LastTimestamp.Time, e.EventTime.Time} {
		if !t.IsZero() {
			return t
		}
	}
	return e.CreationTimestamp.Time
}

func lastOf(lines []string) []string { return lines[max(0, len(lines)-lastN):] }
