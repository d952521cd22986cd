package apply

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
)

// again is how long to wait before a watch that ended is begun again: whatever ended it might end the next one, too.
const again = 100 * time.Millisecond

// watcher is anything that can be watched.
type watcher interface {
	Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error)
}

// named selects one object.
func named(name string) metav1.ListOptions {
	return metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()}
}

// follow follows one object, from what it is now, until something is so.
func follow(ctx context.Context, in watcher, name string, so func(watch.Event) (bool, error)) error {
	for {
		w, err := in.Watch(ctx, named(name))
		if err != nil {
			return cause(ctx, err)
		}
		if is, err := until(ctx, w, so); is || err != nil {
			return err
		}
	}
}

// until reads a watch until something is so. A watch may end by itself: then nothing is known, and another one has to be begun.
func until(ctx context.Context, w watch.Interface, so func(watch.Event) (bool, error)) (bool, error) {
	defer w.Stop()
	for {
		select {
		case e, open := <-w.ResultChan():
			if !open || e.Type == watch.Error {
				return false, pause(ctx)
			}
			if is, err := so(e); is || err != nil {
				return is, err
			}
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

func pause(ctx context.Context) error {
	timer := time.NewTimer(again)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// signal tells of every change of what is watched, until ctx ends; changes that nobody has looked at yet are one. Where it cannot be watched the next attempt is a while away.
func signal(ctx context.Context, in watcher, o metav1.ListOptions, changed chan<- struct{}) {
	tell := func(watch.Event) (bool, error) {
		select {
		case changed <- struct{}{}:
		default:
		}
		return false, nil
	}
	for ctx.Err() == nil {
		w, err := in.Watch(ctx, o)
		if err != nil {
			_ = pause(ctx)
			continue
		}
		_, _ = until(ctx, w, tell)
	}
}

// cause prefers why ctx ended to what a request made of that.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
