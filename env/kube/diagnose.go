package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshtest.dev/meshtest/env/kube/names"
)

// maxDump bounds one file of diagnostics.
const maxDump = 16 << 20

// Diagnose writes events, pods, logs and what every sidecar says of itself.
func (m *Mesh) Diagnose(ctx context.Context, dir string) (lines []string, err error) {
	var errs []error
	for _, namespace := range m.namespaces() {
		events, err := m.events(ctx, namespace)
		errs = append(errs, err)
		errs = append(errs, writeLines(filepath.Join(dir, "events-"+namespace+".txt"), events))
		lines = append(lines, warnings(events)...)
	}
	all, _ := m.pods.list(func(*corev1.Pod) bool { return true })
	for _, p := range all {
		errs = append(errs, writeJSON(filepath.Join(dir, instanceOf(p)+".pod.json"), withoutSecrets(p)))
		errs = append(errs, m.dumpLogs(ctx, dir, p)...)
		if carries(p) {
			errs = append(errs, m.dumpSidecar(ctx, dir, p)...)
		}
		lines = append(lines, troubles(p)...)
	}
	return lastOf(lines, 20), errors.Join(errs...)
}

// withoutSecrets is the pod less the values of its environment: whoever gets the diagnostics need not know what the application knows.
func withoutSecrets(p *corev1.Pod) *corev1.Pod {
	p = p.DeepCopy()
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			for j := range list[i].Env {
				list[i].Env[j].Value = ""
			}
		}
	}
	delete(p.Annotations, "kubectl.kubernetes.io/last-applied-configuration")
	return p
}

// events are what happened to the namespace's objects, oldest first.
func (m *Mesh) events(ctx context.Context, namespace string) ([]string, error) {
	list, err := m.client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{Limit: 2000})
	if err != nil {
		return nil, fmt.Errorf("listing events of %s: %w", namespace, err)
	}
	slices.SortStableFunc(list.Items, func(a, b corev1.Event) int { return eventTime(a).Compare(eventTime(b)) })
	var lines []string
	for _, e := range list.Items {
		lines = append(lines, fmt.Sprintf("%s %s %s/%s %s: %s", eventTime(e).UTC().Format(time.TimeOnly), e.Type, strings.ToLower(e.InvolvedObject.Kind), e.InvolvedObject.Name, e.Reason,
			strings.TrimSpace(e.Message)))
	}
	return lines, nil
}

func eventTime(e corev1.Event) time.Time {
	if !e.LastTimestamp.IsZero() {
		return e.LastTimestamp.Time
	}
	if !e.EventTime.IsZero() {
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}

// warnings are the last events that say that something is wrong.
func warnings(events []string) []string {
	var lines []string
	for _, line := range events {
		if strings.Contains(line, " "+corev1.EventTypeWarning+" ") {
			lines = append(lines, line)
		}
	}
	return lastOf(lines, 5)
}

// troubles says what is wrong with a pod's containers.
func troubles(p *corev1.Pod) []string {
	var lines []string
	for _, c := range append(slices.Clone(p.Status.InitContainerStatuses), p.Status.ContainerStatuses...) {
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Message != "":
			lines = append(lines, fmt.Sprintf("pod %s, container %s: %s: %s", p.Name, c.Name, c.State.Waiting.Reason, c.State.Waiting.Message))
		case c.State.Terminated != nil && c.State.Terminated.ExitCode != 0:
			lines = append(lines, fmt.Sprintf("pod %s, container %s: ended with exit code %d (%s)", p.Name, c.Name, c.State.Terminated.ExitCode, c.State.Terminated.Reason))
		}
	}
	return lines
}

func (m *Mesh) dumpLogs(ctx context.Context, dir string, p *corev1.Pod) (errs []error) {
	for _, c := range append(slices.Clone(p.Status.InitContainerStatuses), p.Status.ContainerStatuses...) {
		if c.ContainerID == "" {
			continue // it never ran
		}
		if c.RestartCount > 0 {
			errs = append(errs, m.dumpLog(ctx, filepath.Join(dir, instanceOf(p)+"."+c.Name+".previous.log"), p, &corev1.PodLogOptions{Container: c.Name, Previous: true}))
		}
		errs = append(errs, m.dumpLog(ctx, filepath.Join(dir, instanceOf(p)+"."+c.Name+".log"), p, &corev1.PodLogOptions{Container: c.Name}))
	}
	return errs
}

func (m *Mesh) dumpLog(ctx context.Context, path string, p *corev1.Pod, options *corev1.PodLogOptions) error {
	stream, err := m.client.CoreV1().Pods(p.Namespace).GetLogs(p.Name, options).Stream(ctx)
	if err != nil {
		return fmt.Errorf("reading the log of %s in pod %s: %w", options.Container, p.Name, err)
	}
	defer stream.Close()
	return writeFrom(path, stream)
}

// dumpSidecar asks a sidecar's admin listener.
func (m *Mesh) dumpSidecar(ctx context.Context, dir string, p *corev1.Pod) (errs []error) {
	client := m.adminClient(p)
	defer client.CloseIdleConnections()
	for _, what := range []string{"config_dump", "clusters", "stats"} {
		errs = append(errs, fetchTo(ctx, client, "http://localhost/"+what, filepath.Join(dir, instanceOf(p)+"."+what)))
	}
	return errs
}

// adminClient speaks to the admin listener of a pod's sidecar.
func (m *Mesh) adminClient(p *corev1.Pod) *http.Client {
	dial := m.forward.Dial(p.Namespace, p.Name, names.PortAdmin)
	return &http.Client{
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }},
		Timeout:   10 * time.Second,
	}
}

func fetchTo(ctx context.Context, client *http.Client, url, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("asking for %s: %w", filepath.Base(path), err)
	}
	defer response.Body.Close()
	return writeFrom(path, response.Body)
}

func writeFrom(path string, r io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.LimitReader(r, maxDump))
	return errors.Join(err, f.Close())
}

func writeLines(path string, lines []string) error {
	return writeFrom(path, strings.NewReader(strings.Join(lines, "\n")+"\n"))
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

func lastOf(lines []string, n int) []string { return lines[max(0, len(lines)-n):] }
