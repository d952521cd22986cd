package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"unicode"

	"sigs.k8s.io/kind/pkg/log"
)

// logger hands what kind says to ours, and its steps to whoever follows them.
type logger struct {
	to       *slog.Logger
	progress func(string)
}

var _ log.Logger = logger{}

func (l logger) say(level slog.Level, text string) {
	text = strings.TrimSpace(text)
	if text == "" {
		return
	}
	if l.to != nil {
		l.to.Log(context.Background(), level, text)
	}
	if step, is := step(text); is && l.progress != nil {
		l.progress(step)
	}
}

// step is a line by which kind begins one.
func step(line string) (string, bool) {
	text, is := strings.CutPrefix(line, "• ")
	text = strings.Map(func(r rune) rune {
		if r > unicode.MaxLatin1 {
			return -1 // pictures
		}
		return r
	}, strings.TrimSuffix(strings.TrimSpace(text), "..."))
	return strings.TrimSpace(text), is
}

func (l logger) Warn(message string)               { l.say(slog.LevelWarn, message) }
func (l logger) Warnf(format string, args ...any)  { l.Warn(fmt.Sprintf(format, args...)) }
func (l logger) Error(message string)              { l.say(slog.LevelError, message) }
func (l logger) Errorf(format string, args ...any) { l.Error(fmt.Sprintf(format, args...)) }

// V returns the logger of what is no trouble. What is of a higher level than 1 is the output of commands.
func (l logger) V(level log.Level) log.InfoLogger { return info{l, level} }

type info struct {
	logger
	level log.Level
}

func (i info) Enabled() bool { return i.level <= 1 && (i.to != nil || i.progress != nil) }

func (i info) Info(message string) {
	if i.Enabled() {
		i.say(slog.LevelDebug, message)
	}
}

func (i info) Infof(format string, args ...any) {
	if i.Enabled() {
		i.say(slog.LevelDebug, fmt.Sprintf(format, args...))
	}
}
