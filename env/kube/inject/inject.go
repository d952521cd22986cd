// Package inject puts the mesh beside an application in a cluster: it adds to a pod the container that captures its traffic and the sidecar that carries it.
//
// There is one decision, about a pod, and three ways to have it carried out: [Pod] for an object in memory, [Handler] and [Patch] for the admission of pods, [Manifest] for files. What is
// added is the same in all three. Nothing of the application's own is changed:
//
//   - The capture container is the first init container. It runs as root with the single capability NET_ADMIN, which setting nftables rules takes (Kubernetes gives a container that is not root no
//     capabilities that it could use), and with nothing else. It is the only container that does not satisfy the restricted Pod Security Standard, and needs a namespace whose enforced level is privileged.
//   - The sidecar is the second one, an init container that is restarted always: it is ready before any init container of the application's own starts, carries their traffic too, and
//     ends after the application. On clusters before 1.29 it is the first ordinary container instead ([Config.NativeSidecars]); there the capture container comes last, so that the application's init containers
//     reach the network without the sidecar, and a Job's pod does not end by itself.
//   - A volume holds a token for the control plane, and the authority that signs the control plane's certificate.
//   - Annotations tell Prometheus where the sidecar's metrics are, unless the application has such annotations itself, and that the pod has been injected.
//
// A pod is left alone when it asks for it (label [names.LabelInject], or Istio's), when it has been injected, when it shares its node's network or runs Windows, and in namespaces of Kubernetes' own. A pod that cannot work with a
// sidecar is refused: one that runs as the sidecar's user or group, whose traffic would not be captured, and one that uses our names.
package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubejson "sigs.k8s.io/json"
)

// Config is what injection must know of the mesh.
type Config struct {
	Image          string // reference of the sidecar's image; it captures too
	ControlAddress string // HOST:PORT of the control plane
	RunID          string // for the sidecar's log; may be empty
	LogLevel       string // of the sidecar: DEBUG, INFO, WARN or ERROR; empty: its default
	NativeSidecars bool   // the cluster restarts init containers (Kubernetes 1.29 and later)

	// Namespaces are those whose workloads are injected; empty: all. An object that names none counts as one of "default". Namespaces of Kubernetes' own are never injected. The admission of pods goes by it too.
	Namespaces []string
}

// Validate returns everything that is wrong, joined.
func (c Config) Validate() error {
	var errs []error
	if c.Image == "" {
		errs = append(errs, errors.New("the sidecar has no image"))
	}
	if host, port, err := net.SplitHostPort(c.ControlAddress); err != nil || host == "" || port == "" {
		errs = append(errs, fmt.Errorf("%q is no address of a control plane: want HOST:PORT", c.ControlAddress))
	}
	if c.LogLevel != "" {
		if err := new(slog.Level).UnmarshalText([]byte(c.LogLevel)); err != nil {
			errs = append(errs, fmt.Errorf("%q is no log level: want DEBUG, INFO, WARN or ERROR", c.LogLevel))
		}
	}
	return errors.Join(errs...)
}

// Result is what became of a pod that was not refused.
type Result struct {
	Skipped  string   // why nothing was added; empty: the pod has been injected
	Warnings []string // what its owner should know
}

// Pod injects a pod, or a workload's template, in place. It returns [Problems] when the pod is refused, and leaves it as it is then.
func Pod(meta *metav1.ObjectMeta, spec *corev1.PodSpec, c Config) (Result, error) {
	if err := c.Validate(); err != nil {
		return Result{}, fmt.Errorf("injecting: %w", err)
	}
	p := corev1.PodTemplateSpec{ObjectMeta: *meta, Spec: *spec}
	d, err := decide(&p, meta.Namespace, c)
	if err != nil {
		return Result{}, err
	}
	var after corev1.PodTemplateSpec
	object, err := toObject(p)
	if err != nil {
		return Result{}, err
	}
	if err := fromObject(d.edits.apply(object), &after); err != nil {
		return Result{}, err
	}
	*meta, *spec = after.ObjectMeta, after.Spec
	return d.Result, nil
}

// Patch returns the JSON patch (RFC 6902) that injects a pod, given as JSON; nil when there is nothing to add. It returns [Problems] when the pod is refused.
func Patch(pod []byte, c Config) ([]byte, error) {
	patch, _, err := patch(pod, "", c)
	return patch, err
}

// patch is Patch for a pod that is about to be created in a namespace; a pod's own metadata may not name it yet.
func patch(pod []byte, namespace string, c Config) ([]byte, Result, error) {
	if err := c.Validate(); err != nil {
		return nil, Result{}, fmt.Errorf("injecting: %w", err)
	}
	var object map[string]any
	if err := json.Unmarshal(pod, &object); err != nil {
		return nil, Result{}, fmt.Errorf("reading the pod: %w", err)
	}
	p, err := readPod(object)
	if err != nil {
		return nil, Result{}, err
	}
	if namespace == "" {
		namespace = p.Namespace
	}
	d, err := decide(p, namespace, c)
	if err != nil || len(d.edits) == 0 {
		return nil, d.Result, err
	}
	out, err := json.Marshal(d.edits.patch(object))
	return out, d.Result, err
}

// readPod reads a pod or a template; the error is a Problem.
func readPod(object map[string]any) (*corev1.PodTemplateSpec, error) {
	var p corev1.PodTemplateSpec
	err := fromObject(map[string]any{"metadata": object["metadata"], "spec": object["spec"]}, &p)
	if mismatch := new(json.UnmarshalTypeError); errors.As(err, &mismatch) {
		return nil, Problems{{Path: pathOf(mismatch.Field), Message: fmt.Sprintf("it wants %s, not %s", kindName(mismatch.Type), mismatch.Value)}}
	}
	if err != nil {
		return nil, Problems{{Message: err.Error()}}
	}
	return &p, nil
}

// kindName is what JSON calls a type.
func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct, reflect.Pointer:
		return "an object"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	default:
		return "a number (" + t.Kind().String() + ")"
	}
}

// toObject turns a value into what JSON knows.
func toObject(value any) (object map[string]any, err error) {
	err = convert(value, &object)
	return object, err
}

// fromObject reads an object as the API server does: the names of fields are case sensitive.
func fromObject(object map[string]any, into any) error {
	text, err := json.Marshal(object)
	if err != nil {
		return err
	}
	return kubejson.UnmarshalCaseSensitivePreserveInts(text, into)
}

func convert(from, into any) error {
	text, err := json.Marshal(from)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber() // numbers stay as they are written
	return dec.Decode(into)
}
