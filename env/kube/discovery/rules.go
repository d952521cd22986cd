package discovery

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"

	"meshtest.dev/meshtest/control"
	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/mesh"
)

// keyEpoch is where the Secret keeps the epoch of the control plane that wrote to it last.
const keyEpoch = "epoch"

// saveTimeout bounds how long the API server may take to keep the owner's rules.
const saveTimeout = 10 * time.Second

// Rules keep what the owner has said in a Secret of the mesh's own namespace, with the epoch of the control plane that keeps it. Whoever takes them over has a larger epoch than anybody
// before, and nobody before can write any more. They are not safe for concurrent use.
type Rules struct {
	secrets typed.SecretInterface
	secret  *corev1.Secret
	epoch   uint64
	overlay *mesh.Snapshot
}

// TakeOver reads what was kept, and keeps whoever had it from writing.
func TakeOver(ctx context.Context, client kubernetes.Interface, namespace string) (*Rules, error) {
	r := &Rules{secrets: client.CoreV1().Secrets(namespace)}
	for {
		err := r.takeOver(ctx)
		if err == nil {
			return r, nil
		}
		if !apierrors.IsConflict(err) {
			return nil, fmt.Errorf("taking over the rules in Secret %s/%s: %w", namespace, names.Rules, err)
		}
	}
}

func (r *Rules) takeOver(ctx context.Context) (err error) {
	if r.secret, err = r.secrets.Get(ctx, names.Rules, metav1.GetOptions{}); err != nil {
		return err
	}
	before, err := epochOf(r.secret)
	if err != nil {
		return err
	}
	if r.overlay, err = unpack(r.secret.Data[names.KeyRules]); err != nil {
		return err
	}
	r.epoch = before + 1
	return r.write(ctx, r.secret.Data[names.KeyRules])
}

// Epoch is larger than that of whoever had the rules before.
func (r *Rules) Epoch() uint64 { return r.epoch }

// Overlay is what the owner has said; nil: nothing yet.
func (r *Rules) Overlay() *mesh.Snapshot { return r.overlay }

// Save keeps what the owner says from now on. The error is [control.ErrReplaced] when somebody else has taken the rules over. What has begun goes on when ctx ends, so that the owner's going does not
// leave open what is kept.
func (r *Rules) Save(ctx context.Context, overlay *mesh.Snapshot) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	packed, err := pack(overlay)
	if err != nil {
		return fmt.Errorf("keeping the rules: %w", err)
	}
	if bytes.Equal(packed, r.secret.Data[names.KeyRules]) {
		r.overlay = overlay
		return nil
	}
	for {
		err := r.write(ctx, packed)
		if err == nil {
			r.overlay = overlay
			return nil
		}
		if apierrors.IsConflict(err) {
			err = r.refresh(ctx)
		}
		if err != nil {
			return fmt.Errorf("keeping the rules in Secret %s: %w", names.Rules, err)
		}
	}
}

// refresh reads the Secret again, which somebody has changed: a label, or its owner.
func (r *Rules) refresh(ctx context.Context) error {
	secret, err := r.secrets.Get(ctx, names.Rules, metav1.GetOptions{})
	if err != nil {
		return err
	}
	epoch, err := epochOf(secret)
	if err != nil {
		return err
	}
	if epoch != r.epoch {
		return control.ErrReplaced
	}
	r.secret = secret
	return nil
}

// write writes unless somebody has written since we read.
func (r *Rules) write(ctx context.Context, packed []byte) error {
	next := r.secret.DeepCopy()
	if next.Data == nil {
		next.Data = map[string][]byte{}
	}
	next.Data[keyEpoch] = strconv.AppendUint(nil, r.epoch, 10)
	if packed != nil {
		next.Data[names.KeyRules] = packed
	}
	written, err := r.secrets.Update(ctx, next, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	r.secret = written
	return nil
}

// epochOf is the epoch of whoever wrote last; 0: nobody did.
func epochOf(secret *corev1.Secret) (uint64, error) {
	text := string(secret.Data[keyEpoch])
	if text == "" {
		return 0, nil
	}
	epoch, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no epoch", text)
	}
	return epoch, nil
}

// pack makes a snapshot small: the API server takes a megabyte.
func pack(s *mesh.Snapshot) ([]byte, error) {
	body, err := wire.Encode(s)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// unpack is the inverse of pack; nothing is nil.
func unpack(packed []byte) (*mesh.Snapshot, error) {
	if len(packed) == 0 {
		return nil, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("unpacking: %w", err)
	}
	body, err := io.ReadAll(io.LimitReader(r, wire.MaxMessage))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("unpacking: %w", err)
	}
	s := mesh.NewSnapshot()
	if err := wire.Decode(body, s); err != nil {
		return nil, err
	}
	if mistakes := wire.Misnamed(s); len(mistakes) > 0 {
		return nil, &wire.RefusedError{Mistakes: mistakes}
	}
	return s, nil
}
