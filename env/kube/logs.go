package kube

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
)

// logs keeps what every container writes while it runs: a pod that is gone can no longer be asked.
type logs struct {
	client kubernetes.Interface
	dir    string
	mu     sync.Mutex
	kept   map[string]bool // containers, by their ids
}

// started returns the pod's containers that have started and whose output nobody keeps yet.
func (l *logs) started(p *corev1.Pod) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var fresh []string
	for _, c := range append(slices.Clone(p.Status.InitContainerStatuses), p.Status.ContainerStatuses...) {
		if c.ContainerID != "" && c.State.Waiting == nil && !l.kept[c.ContainerID] {
			l.kept[c.ContainerID] = true
			fresh = append(fresh, c.Name)
		}
	}
	return fresh
}

// keep appends one container's output to its file until it ends. What cannot be had is missing from a log, and nothing else.
func (l *logs) keep(ctx context.Context, p *corev1.Pod, container string) {
	stream, err := l.client.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{Container: container, Follow: true}).Stream(ctx)
	if err != nil {
		return
	}
	defer stream.Close()
	f, err := os.OpenFile(logFile(l.dir, p, container), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = io.Copy(f, stream)
}

func logFile(dir string, p *corev1.Pod, container string) string {
	return filepath.Join(dir, p.Name+"."+container+".log")
}
