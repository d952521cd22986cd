package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"meshtest.dev/meshtest/env/kube/apply"
)

// RunJob applies objects, among which is one Job, waits until it has ended, writes to log what its pods wrote, and removes the objects. The error says how the Job failed.
func (m *Mesh) RunJob(ctx context.Context, text []byte, log io.Writer) (err error) {
	objects, err := apply.Decode("job", text)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(objects, func(u *unstructured.Unstructured) bool { return u.GetKind() == "Job" })
	if i < 0 {
		return errors.New("there is no Job among the objects")
	}
	for _, u := range objects {
		m.adopt(u)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), downTimeout)
		defer cancel()
		err = errors.Join(err, m.applier.Delete(ctx, objects...))
	}()
	if err := m.applyAll(ctx, objects); err != nil {
		return err
	}
	name := objects[i].GetName()
	err = m.applier.JobDone(ctx, m.namespace, name)
	reading, cancel := context.WithTimeout(context.WithoutCancel(ctx), autopsyTimeout)
	defer cancel()
	return errors.Join(err, m.copyJobLogs(reading, name, log))
}

// copyJobLogs writes what the job's own containers wrote.
func (m *Mesh) copyJobLogs(ctx context.Context, name string, to io.Writer) error {
	pods, err := m.client.CoreV1().Pods(m.namespace).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + name})
	if err != nil {
		return fmt.Errorf("listing the pods of job %s: %w", name, err)
	}
	var errs []error
	for _, p := range pods.Items {
		for _, c := range p.Spec.Containers {
			stream, err := m.client.CoreV1().Pods(m.namespace).GetLogs(p.Name, &corev1.PodLogOptions{Container: c.Name}).Stream(ctx)
			if err != nil {
				errs = append(errs, fmt.Errorf("reading the log of %s in pod %s: %w", c.Name, p.Name, err))
				continue
			}
			_, err = io.Copy(to, io.LimitReader(stream, maxDump))
			errs = append(errs, err, stream.Close())
		}
	}
	return errors.Join(errs...)
}
