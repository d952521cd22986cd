package main

import (
	"context"
	"embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"

	"meshtest.dev/meshtest/mesh"
)

// bodySize is what the origin answers with, in bytes.
const bodySize = 1024

var originBody = strings.Repeat("x", bodySize)

//go:embed conf
var conf embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{"port": func(address string) (string, error) {
	_, port, err := net.SplitHostPort(address)
	return port, err
}}).ParseFS(conf, "conf/*"))

// bed is what all contenders stand on: a folder, and an origin behind them.
type bed struct {
	dir     string
	threads int
	plain   origins
	secure  origins // the same, with TLS
	origin  string  // what it is
	close   func()  // ends it
}

// origins are the addresses of the two versions of the origin.
type origins struct{ stable, canary string }

// host is the origin's, in rules and in its certificate.
var host = mesh.FQDN("backend", mesh.DefaultNamespace)

// newBed starts the origin.
func newBed(ctx context.Context, dir string, threads int) (*bed, error) {
	b := &bed{dir: dir, threads: threads}
	addresses, err := free(4)
	if err != nil {
		return nil, err
	}
	b.plain = origins{addresses[0], addresses[1]}
	b.secure = origins{addresses[2], addresses[3]}
	if err := certify(dir, host); err != nil {
		return nil, err
	}
	if needs(nginx) != nil {
		b.origin = "net/http, which leaves less of the processor to the contenders than nginx would"
		b.close, err = serveOrigin(dir, b.listeners())
	} else {
		b.origin = "nginx"
		b.close, err = b.startOrigin(ctx)
	}
	return b, err
}

// listener is one address of the origin.
type listener struct {
	Address, Version string
	TLS              bool
}

func (b *bed) listeners() []listener {
	return []listener{{b.plain.stable, "v1", false}, {b.plain.canary, "v2", false}, {b.secure.stable, "v1", true}, {b.secure.canary, "v2", true}}
}

// startOrigin starts nginx as the origin, because it is the cheapest that is there, and so leaves the processor to the contender.
func (b *bed) startOrigin(ctx context.Context) (stop func(), err error) {
	path, err := b.write("origin.conf", "origin.conf", map[string]any{"Dir": b.dir, "Body": originBody, "Listeners": b.listeners()})
	if err != nil {
		return nil, err
	}
	p, err := start(b.dir, "origin", exec.Command(nginx, "-p", b.dir, "-e", "stderr", "-c", path))
	if err != nil {
		return nil, err
	}
	if err := p.listening(ctx, b.plain.stable); err != nil {
		p.stop()
		return nil, err
	}
	return p.stop, nil
}

// write makes a file of the folder out of a template.
func (b *bed) write(file, from string, with any) (path string, err error) {
	var text strings.Builder
	if err := templates.ExecuteTemplate(&text, from, with); err != nil {
		return "", fmt.Errorf("making %s: %w", file, err)
	}
	path = filepath.Join(b.dir, file)
	return path, os.WriteFile(path, []byte(text.String()), 0o600)
}

// free finds addresses of this machine where nobody listens.
func free(n int) (addresses []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("looking for a free port: %w", err)
		}
		defer l.Close() // all at the end, so that they are different
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}
