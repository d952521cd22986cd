package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cespare/xxhash/v2"

	"meshtest.dev/meshtest/mesh"
)

// followInterval is how often the files are looked at.
const followInterval = 250 * time.Millisecond

// follow serves the rules anew whenever their files change, until ctx ends. Rules that cannot be served change nothing.
func (r *alone) follow(ctx context.Context, first *loaded) {
	reloaded, rejected := r.counters.Counter("rules_reloaded_total"), r.counters.Counter("rules_rejected_total")
	ticker := time.NewTicker(followInterval)
	defer ticker.Stop()
	served, last := first.snapshot, first
	last.snapshot = nil // it is in memory once
	for n := uint64(2); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if look(r.files, last.files) == last.seen {
			continue
		}
		var err error
		if last, err = r.load(last.files); err == nil {
			next := last.snapshot.Keep(served)
			last.snapshot = nil
			if err = r.server.Replace(next, mesh.Generation{Epoch: 1, Counter: n}); err == nil {
				served = next
			}
		}
		r.memory.note()
		if err != nil {
			r.log.Error("the rules stay as they were", "error", err)
			rejected.Inc() // whoever sees the count finds the reason in the log
			continue
		}
		n++
		r.log.Info("the rules were read again", "generation", r.server.Generation().String())
		reloaded.Inc()
	}
}

// look describes files and folders so that any change shows.
func look(paths, files []string) string {
	var b strings.Builder
	for _, path := range paths {
		fmt.Fprintf(&b, "%s %s\n", path, describe(path))
	}
	for _, path := range files {
		if !slices.Contains(paths, path) {
			fmt.Fprintf(&b, "%s %s\n", path, describe(path))
		}
	}
	return b.String()
}

// maxHashed is the size up to which a file's content is looked at too: two writes within one tick of the file system's clock may leave the same size and time behind. Greater files are told apart by
// size, time and, since whoever writes those in one step renames, by being another file.
const maxHashed = 64 << 10

// describe describes a file or folder. What is neither, as a pipe, can be read only once, and stays as it is.
func describe(path string) string {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err.Error()
	case !info.IsDir() && !info.Mode().IsRegular():
		return info.Mode().String()
	}
	text := fmt.Sprint(info.Size(), info.ModTime().UnixNano())
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		text += fmt.Sprint(" ", stat.Ino)
	}
	if info.Mode().IsRegular() && info.Size() <= maxHashed {
		text += " " + digest(path)
	}
	return text
}

// digest is the hash of a file's content, or why there is none.
func digest(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	h := xxhash.New()
	if _, err := io.Copy(h, io.LimitReader(f, maxHashed+1)); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%x", h.Sum64())
}
