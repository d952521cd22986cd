package apply

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// trouble is why a pod is not ready.
type trouble struct {
	reason    string
	container string // whose trouble it is; empty: the pod's
	final     bool   // it does not heal by itself
	ends      bool   // the container ends, so its log tells more
}

// diagnose says what is wrong with a pod, if something is.
func diagnose(p *corev1.Pod) *trouble {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return &trouble{reason: "no node takes pod " + p.Name + ": " + c.Message} // nodes may come
		}
	}
	for _, c := range append(slices.Clone(p.Status.InitContainerStatuses), p.Status.ContainerStatuses...) {
		if t := diagnoseContainer(c); t != nil {
			t.container = c.Name
			return t
		}
	}
	if p.Status.Phase != corev1.PodFailed {
		return nil
	}
	for _, c := range p.Status.ContainerStatuses {
		if t := c.State.Terminated; t != nil && t.ExitCode != 0 {
			return &trouble{reason: fmt.Sprintf("container %s has ended: %s", c.Name, howEnded(c)), container: c.Name, final: true, ends: true}
		}
	}
	return &trouble{reason: fmt.Sprintf("pod %s has failed: %s %s", p.Name, p.Status.Reason, p.Status.Message), final: true}
}

func diagnoseContainer(c corev1.ContainerStatus) *trouble {
	waiting := c.State.Waiting
	if waiting == nil {
		return nil
	}
	switch waiting.Reason {
	case "ErrImageNeverPull", "InvalidImageName":
		return &trouble{reason: fmt.Sprintf("image %s of container %s cannot be had: %s", c.Image, c.Name, waiting.Message), final: true}
	case "ErrImagePull", "ImagePullBackOff":
		return &trouble{reason: fmt.Sprintf("image %s of container %s cannot be pulled: %s", c.Image, c.Name, waiting.Message), final: isFinalPull(waiting.Message)}
	case "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
		return &trouble{reason: fmt.Sprintf("container %s cannot be started: %s", c.Name, waiting.Message), final: true}
	case "CrashLoopBackOff": // it has ended twice: the first time it is started again at once
		return &trouble{reason: fmt.Sprintf("container %s ends again and again: %s", c.Name, howEnded(c)), final: true, ends: true}
	}
	return nil
}

// isFinalPull reports whether a registry has answered that there is no such image, or not for us. Any other trouble may pass.
func isFinalPull(message string) bool {
	message = strings.ToLower(message)
	return slices.ContainsFunc([]string{"not found", "manifest unknown", "unauthorized", "denied", "insufficient_scope", "invalid reference"}, func(sign string) bool {
		return strings.Contains(message, sign)
	})
}

func howEnded(c corev1.ContainerStatus) string {
	for _, state := range []corev1.ContainerState{c.State, c.LastTerminationState} {
		t := state.Terminated
		if t == nil {
			continue
		}
		text := fmt.Sprintf("exit code %d (%s)", t.ExitCode, t.Reason)
		if t.Message != "" {
			text += ": " + strings.TrimSpace(t.Message)
		}
		return text
	}
	return "nobody knows how"
}

// tail are the last lines that a container wrote: in its last life, or in this one when it said nothing then.
func (w *waiter) tail(ctx context.Context, p *corev1.Pod, container string) []string {
	n := int64(lastN)
	for _, previous := range []bool{true, false} {
		stream, err := w.client.CoreV1().Pods(w.namespace).GetLogs(p.Name, &corev1.PodLogOptions{Container: container, Previous: previous, TailLines: &n}).Stream(ctx)
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

// maxLog bounds what is read of a log, in bytes.
const maxLog = 64 << 10

func readLines(r io.Reader) []string {
	var lines []string
	scanner := bufio.NewScanner(io.LimitReader(r, maxLog))
	scanner.Buffer(nil, maxLog+1)
	for scanner.Scan() {
		lines = append(lines, scanner.Text())
	}
	return lines
}
