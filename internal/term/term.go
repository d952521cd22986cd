// Package term draws on terminals: it knows whether there is one, which colours may be used, and how to keep a region of lines alive below
// the lines that scroll by. It never reads input, so nothing hangs where there is no terminal.
package term

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// Style is a way to write a piece of text; symbols and words carry the meaning, styles only help the eye.
type Style string

// Styles.
const (
	Plain  Style = ""
	Bold   Style = "\x1b[1m"
	Faint  Style = "\x1b[2m"
	Red    Style = "\x1b[31m"
	Green  Style = "\x1b[32m"
	Yellow Style = "\x1b[33m"
	Blue   Style = "\x1b[34m"
	reset        = "\x1b[0m"
)

// Terminal is where narration goes.
type Terminal struct {
	mu     sync.Mutex
	out    io.Writer
	color  bool
	live   bool
	width  func() int
	region int // lines of the region that are on the screen
	last   []string
}

// Mode chooses what a terminal may do.
type Mode struct {
	Live  bool
	Color bool
}

// Detect says what the file can show: a live region only on a terminal that is not a CI's and not a dumb one; colour by NO_COLOR and
// CLICOLOR_FORCE (https://no-color.org, https://bixense.com/clicolors).
func Detect(f *os.File, getenv func(string) string) Mode {
	tty := term.IsTerminal(int(f.Fd())) && getenv("TERM") != "dumb"
	m := Mode{Live: tty && getenv("CI") == "", Color: tty}
	if getenv("CLICOLOR_FORCE") != "" && getenv("CLICOLOR_FORCE") != "0" {
		m.Color = true
	}
	if getenv("NO_COLOR") != "" {
		m.Color = false
	}
	return m
}

// New returns a terminal on out. width tells how wide it is now; nil means 100 columns.
func New(out io.Writer, mode Mode, width func() int) *Terminal {
	if width == nil {
		width = func() int { return 100 }
	}
	return &Terminal{out: out, color: mode.Color, live: mode.Live, width: width}
}

// Width returns a function that tells the width of the file's terminal.
func Width(f *os.File) func() int {
	return func() int {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 20 {
			return w
		}
		return 100
	}
}

// Live reports whether regions are drawn.
func (t *Terminal) Live() bool { return t.live }

// Paint returns the text in a style, or as it is when there are no colours.
func (t *Terminal) Paint(s Style, text string) string {
	if !t.color || s == Plain {
		return text
	}
	return string(s) + text + reset
}

// Println writes a line above the region.
func (t *Terminal) Println(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b bytes.Buffer
	t.erase(&b)
	b.WriteString(line + "\n")
	t.draw(&b, t.last)
	_, _ = t.out.Write(b.Bytes())
}

// Region replaces the live region; nothing happens where there is none.
func (t *Terminal) Region(lines []string) {
	if !t.live {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var b bytes.Buffer
	t.erase(&b)
	t.draw(&b, lines)
	t.last = lines
	_, _ = t.out.Write(b.Bytes())
}

func (t *Terminal) erase(b *bytes.Buffer) {
	if t.region > 0 {
		fmt.Fprintf(b, "\x1b[%dA\r\x1b[J", t.region)
		t.region = 0
	}
}

func (t *Terminal) draw(b *bytes.Buffer, lines []string) {
	if !t.live {
		return
	}
	width := t.width()
	for _, line := range lines {
		b.WriteString(cut(line, width-1) + "\n")
	}
	t.region = len(lines)
}

// cut shortens a line to so many visible characters, so that it never wraps; escape sequences do not count.
func cut(line string, width int) string {
	var b strings.Builder
	visible, escaped, styled := 0, false, false
	for _, r := range line {
		switch {
		case r == '\x1b':
			escaped, styled = true, true
		case escaped:
			escaped = r != 'm'
		case visible == width:
			continue
		default:
			visible++
		}
		b.WriteRune(r)
	}
	if styled {
		b.WriteString(reset)
	}
	return b.String()
}
