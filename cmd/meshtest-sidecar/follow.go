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

// settling tells when files that change are to be read: half of a file that is being written may be good rules too.
type settling struct{ before string } // the look before

// done reports whether files that looked like read when they were read are now to be read again: they have changed, and did not change any more since they were looked at last.
func (s *settling) done(read, now string) bool {
	still := now == s.before
	s.before = now
	return still && now != read
}

// follow serves the rules anew whenever their files change, until ctx ends. Rules that cannot be served change nothing.
func (r *alone) follow(ctx context.Context, first *loaded) {
	reloaded, rejected := r.counters.Counter("rules_reloaded_total"), r.counters.Counter("rules_rejected_total")
	ticker := time.NewTicker(followInterval)
	defer ticker.Stop()
	served, last := first.snapshot, first
	last.snapshot = nil // it is in memory once
	var files settling
	for n := uint64(2); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if !files.done(last.seen, last.look(r.files)) {
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

// maxHashed is the size up to which a file's content is looked at too, as the names in a folder are: two writes within one tick of the file system's clock may leave the same size and time behind. Greater files are told apart by
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
	switch {
	case info.IsDir():
		text += " " + listing(path)
	case info.Size() <= maxHashed:
		text += " " + digest(path)
	}
	return text
}

// listing is the names in a folder, or why they are not known.
func listing(path string) string {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err.Error()
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return strings.Join(names, "/")
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
