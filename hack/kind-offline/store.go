package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// store is the folder of parts. A part is a folder NAME-KEY, where KEY is a digest of what it is made from; it appears under that name only
// when it is whole.
type store struct {
	folder string
	lock   *os.File
}

// openStore takes the store for this process alone, waiting for another one that has it.
func openStore(folder string) (*store, error) {
	if folder == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("finding a folder for the cache: %w", err)
		}
		folder = filepath.Join(base, "meshtest", "kind-offline")
	}
	for _, dir := range []string{"parts", "logs", "modules"} {
		if err := os.MkdirAll(filepath.Join(folder, dir), 0o755); err != nil {
			return nil, fmt.Errorf("making the cache: %w", err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking the cache: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		return &store{folder, lock}, nil
	}
	say("waiting for another run that uses %s", folder)
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		lock.Close()
		return nil, fmt.Errorf("locking the cache: %w", err)
	}
	return &store{folder, lock}, nil
}

func (s *store) Close() error { return s.lock.Close() }

// log is where the output of the commands that make a part goes.
func (s *store) log(name string) string { return filepath.Join(s.folder, "logs", name+".log") }

// part returns the folder of a part, making it when there is none for these inputs: build fills the folder that it is given. Inputs are anything
// that JSON can say; a part that is made from others has their folders among its inputs. Older makes of the same part are removed.
func (s *store) part(ctx context.Context, name string, build func(ctx context.Context, folder string) error, inputs ...any) (string, error) {
	key, err := keyOf(inputs)
	if err != nil {
		return "", fmt.Errorf("keying %s: %w", name, err)
	}
	parts := filepath.Join(s.folder, "parts")
	folder := filepath.Join(parts, name+"-"+key)
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("looking for %s: %w", name, err)
	}
	say("%s: making it", name)
	start := time.Now()
	partial := filepath.Join(parts, name+".partial")
	if err := os.RemoveAll(partial); err != nil {
		return "", fmt.Errorf("removing what an interrupted run has left: %w", err)
	}
	if err := os.Mkdir(partial, 0o755); err != nil {
		return "", fmt.Errorf("making %s: %w", name, err)
	}
	if err := build(ctx, partial); err != nil {
		if ctx.Err() != nil {
			return "", fmt.Errorf("making %s: interrupted; the next run goes on from here", name)
		}
		return "", fmt.Errorf("making %s: %w", name, err)
	}
	if err := s.removeOlder(name); err != nil {
		return "", err
	}
	if err := os.Rename(partial, folder); err != nil {
		return "", fmt.Errorf("keeping %s: %w", name, err)
	}
	say("%s: made in %v", name, time.Since(start).Round(time.Second))
	return folder, nil
}

func (s *store) removeOlder(name string) error {
	older, err := filepath.Glob(filepath.Join(s.folder, "parts", name+"-"+strings.Repeat("[0-9a-f]", keyDigits)))
	if err != nil {
		return err
	}
	for _, folder := range older {
		if err := os.RemoveAll(folder); err != nil {
			return fmt.Errorf("removing an older %s: %w", name, err)
		}
	}
	return nil
}

const keyDigits = 16

func keyOf(inputs []any) (string, error) {
	data, err := json.Marshal(inputs)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])[:keyDigits], nil
}

// say narrates.
func say(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "kind-offline: "+format+"\n", arguments...)
}
