package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"time"

	"meshtest.dev/meshtest/mesh"
)

// manyServices have a route and two endpoints each: 5,000 routes and 10,000 endpoints.
const manyServices = 5000

// mebibyte and kibibyte are the units of the bars.
const (
	kibibyte = 1 << 10
	mebibyte = 1 << 20
)

// settle is how long memory gets to be given back before it is looked at.
const settle = 3 * time.Second

// footprint is the sidecar's resident memory.
type footprint struct {
	idle       float64 // MiB
	files      float64 // MiB, with many rules from a file, parsed in the process itself
	controlled float64 // MiB, with the same from a control plane, as in a mesh
	connection float64 // KiB for each idle connection
	open       int     // how many those were
}

// weigh measures the sidecar's memory, each time of a new process.
func (b *bed) weigh(ctx context.Context, binary string, connections int, progress func(string)) (f footprint, err error) {
	progress("memory: idle")
	c, err := b.enter(ctx, sidecar, binary, false)
	if err != nil {
		return f, err
	}
	defer c.stop()
	wait(ctx, settle)
	before, err := c.resident()
	if err != nil {
		return f, err
	}
	f.idle = float64(before) / mebibyte
	progress(fmt.Sprintf("memory: %d idle connections", connections))
	after, err := residentWith(ctx, c, connections)
	if err != nil {
		return f, err
	}
	f.open, f.connection = connections, (float64(after)-float64(before))/kibibyte/float64(connections)

	progress("memory: many rules")
	path, err := b.write("many.yaml", "many.yaml", map[string]any{"Services": manyRules()})
	if err != nil {
		return f, err
	}
	files, err := b.residentWithFile(ctx, binary, path)
	if err != nil {
		return f, err
	}
	controlled, err := b.residentControlled(ctx, binary, path)
	f.files, f.controlled = float64(files)/mebibyte, float64(controlled)/mebibyte
	return f, err
}

// residentWith is a contender's memory while connections are open that have each carried a request, and wait.
func residentWith(ctx context.Context, c *contender, connections int) (uint64, error) {
	open, err := dial(ctx, c.http1, connections)
	if err != nil {
		return 0, fmt.Errorf("%w (ulimit -n bounds them)", err)
	}
	defer hangUp(open)
	for i, conn := range open {
		if err := exchange(conn); err != nil {
			return 0, fmt.Errorf("asking on connection %d: %w", i+1, err)
		}
	}
	wait(ctx, settle)
	resident, err := c.resident()
	if err != nil {
		return 0, err
	}
	for i, conn := range open { // or they would not have been idle connections
		if err := exchange(conn); err != nil {
			return 0, fmt.Errorf("asking again on connection %d: %w", i+1, err)
		}
	}
	return resident, nil
}

// exchange sends a request and reads its answer.
func exchange(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); err != nil {
		return err
	}
	return readAnswer(bufio.NewReader(conn))
}

// service is one of many.
type service struct {
	Name, Host string
	Endpoints  []endpoint
}

type endpoint struct{ Address, Version string }

func manyRules() []service {
	all := make([]service, manyServices)
	for i := range all {
		name := "service-" + strconv.Itoa(i)
		all[i] = service{name, mesh.FQDN(name, mesh.DefaultNamespace), []endpoint{{address(2 * i), "v1"}, {address(2*i + 1), "v2"}}}
	}
	return all
}

// address is the i-th behind 127.1.0.0: nobody is there, and whoever asks all the same does not leave the machine.
func address(i int) string { return net.IPv4(127, 1+byte(i>>16), byte(i>>8), byte(i)).String() }

// residentWithFile is the memory of a sidecar alone that has read many rules.
func (b *bed) residentWithFile(ctx context.Context, binary, path string) (uint64, error) {
	addresses, err := free(1)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(binary, "-f", path, "--listen", addresses[0], "--log-level", "warn")
	cmd.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(b.threads))
	p, err := start(b.dir, "sidecar-many", cmd)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	if err := p.listening(ctx, addresses[0]); err != nil {
		return 0, err
	}
	wait(ctx, settle)
	return p.resident()
}

// residentControlled is the memory of a sidecar that a control plane has told as many rules.
func (b *bed) residentControlled(ctx context.Context, binary, path string) (resident uint64, err error) {
	snapshot, err := compile(path)
	if err != nil {
		return 0, err
	}
	m, err := newMesh(ctx, b.dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	p, err := m.sidecar(b.dir, binary, b.threads)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	if err := m.tell(ctx, snapshot); err != nil {
		return 0, fmt.Errorf("telling the sidecar many rules: %w: %s", err, p.said())
	}
	wait(ctx, settle)
	return p.resident()
}

func printFootprint(w io.Writer, f footprint) {
	fmt.Fprintf(w, "resident memory of the sidecar\nidle %.1f MiB; with %d routes and %d endpoints %.1f MiB when a control plane says them, %.1f MiB when it read them from a file; %.1f KiB for each of %d idle connections\n\n",
		f.idle, manyServices, 2*manyServices, f.controlled, f.files, f.connection, f.open)
}
