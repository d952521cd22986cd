package run

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"meshtest.dev/meshtest/env"
)

// Bounds of what is quoted when something went wrong.
const (
	quotedLines = 20 // in all
	quotedEach  = 3  // of a log
	tailBytes   = 8 << 10
)

// diagnose asks the mesh what it knows, keeps that, and quotes the last lines that are worth it.
func (c *conductor) diagnose() {
	if c.diagnosed {
		return
	}
	c.diagnosed = true
	dir := filepath.Join(c.Out, "diagnostics")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.note("warning", "no diagnostics: "+err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.limit.Diagnose)
	defer cancel()
	var lines []string
	if of := c.diagnoser(); of == nil {
		lines = c.lastWords()
	} else {
		done := c.Waiting("diagnostics")
		var err error
		lines, err = of.Diagnose(ctx, dir)
		done()
		if err != nil {
			c.note("warning", "some diagnostics are missing: "+err.Error())
		}
	}
	_ = os.Remove(dir) // when there is nothing in it
	if len(lines) > quotedLines {
		lines = lines[len(lines)-quotedLines:]
	}
	if len(lines) > 0 {
		c.note("info", "the last that was heard:\n  | "+redact(strings.Join(lines, "\n  | ")))
	}
}

// diagnoser is who knows more: the mesh or, when it never stood, the environment.
func (c *conductor) diagnoser() env.Diagnoser {
	if c.mesh != nil {
		d, _ := c.mesh.(env.Diagnoser)
		return d
	}
	d, _ := c.Environment.(env.Diagnoser)
	return d
}

// lastWords are the last lines of every log of the run, without those that only inform.
func (c *conductor) lastWords() []string {
	logs, err := filepath.Glob(filepath.Join(c.logs(), "*.log"))
	if err != nil {
		return nil
	}
	slices.Sort(logs)
	var lines []string
	for _, path := range logs {
		for _, line := range lastLines(path, quotedEach) {
			if strings.Contains(line, `"level":"INFO"`) || strings.Contains(line, " INFO ") {
				continue
			}
			lines = append(lines, fmt.Sprintf("%s: %s", strings.TrimSuffix(filepath.Base(path), ".log"), line))
		}
	}
	return lines
}

// lastLines are the last lines of a file that say something, at most n.
func lastLines(path string, n int) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	if end, err := f.Seek(0, io.SeekEnd); err != nil || end > tailBytes {
		if _, err := f.Seek(-tailBytes, io.SeekEnd); err != nil {
			return nil
		}
	} else if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(f, tailBytes))
	if err != nil {
		return nil
	}
	var lines []string
	for line := range bytes.Lines(data) {
		if text := strings.TrimRight(string(line), "\r\n\t "); text != "" {
			lines = append(lines, text)
		}
	}
	return lines[max(len(lines)-n, 0):]
}
