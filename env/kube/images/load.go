package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"
	"sigs.k8s.io/kind/pkg/exec"

	"meshtest.dev/meshtest/internal/oci"
)

// Load brings images into the nodes that have not got them, several nodes at once. Several processes may do so at once, too: what is the same has the same name.
func Load(ctx context.Context, into []nodes.Node, images ...Image) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, node := range into {
		g.Go(func() error {
			if err := load(ctx, node, images); err != nil {
				return fmt.Errorf("loading images into node %s: %w", node, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// attempts of bringing one image, when others bring the same at the same moment.
const attempts = 5

func load(ctx context.Context, node nodes.Node, images []Image) error {
	there, err := list(ctx, node)
	if err != nil {
		return err
	}
	fits := false
	for _, i := range images {
		if there[i.Ref] != "" {
			if err := i.point(ctx, node, there); err != nil {
				return err
			}
			continue
		}
		if !fits {
			if err := fit(ctx, node, images); err != nil {
				return err
			}
			fits = true
		}
		if err := i.bring(ctx, node); err != nil {
			return fmt.Errorf("%s: %w", i.Ref, err)
		}
	}
	return nil
}

// list are the images that a node has: digests, by reference.
func list(ctx context.Context, node nodes.Node) (map[string]string, error) {
	table, err := ctr(ctx, node, "ls")
	if err != nil {
		return nil, fmt.Errorf("listing its images: %w", err)
	}
	there := map[string]string{}
	for row := range strings.Lines(table) {
		if columns := strings.Fields(row); len(columns) > 2 { // reference, media type, digest, and more
			there[columns[0]] = columns[2]
		}
	}
	return there, nil
}

// bring streams the image into a node. containerd does not like two to bring the same: one of them hears that there is one already, before all of it is there.
func (i Image) bring(ctx context.Context, node nodes.Node) error {
	for attempt := 1; ; attempt++ {
		err := i.stream(ctx, node)
		if err == nil || attempt == attempts || !strings.Contains(err.Error(), "already exists") {
			return err
		}
		there, listed := list(ctx, node)
		if listed != nil {
			return listed
		}
		if there[i.Ref] != "" {
			return i.point(ctx, node, there)
		}
	}
}

// run runs a command in a node and returns what it wrote; an error says what it wrote about it.
func run(ctx context.Context, node nodes.Node, name string, args ...string) (string, error) {
	var out, stderr bytes.Buffer
	if err := node.CommandContext(ctx, name, args...).SetStdout(&out).SetStderr(&stderr).Run(); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", fmt.Errorf("%s: %w", name, said(err, stderr.Bytes()))
	}
	return out.String(), nil
}

// said prefers what a command wrote to its exit code.
func said(err error, wrote []byte) error {
	if failed := (*exec.RunError)(nil); len(wrote) == 0 && errors.As(err, &failed) {
		wrote = failed.Output
	}
	lines := strings.Split(strings.TrimSpace(string(wrote)), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return errors.New(last)
	}
	return err
}

// ctr is containerd's own client in a node. Not every node image has another one.
func ctr(ctx context.Context, node nodes.Node, args ...string) (string, error) {
	return run(ctx, node, "ctr", append([]string{"--namespace=k8s.io", "images"}, args...)...)
}

// point makes the aliases mean this image. Those that do stay as they are: an alias is not there for a moment while it is given anew, and others may start pods just then.
func (i Image) point(ctx context.Context, node nodes.Node, there map[string]string) error {
	wrong := slices.DeleteFunc(slices.Clone(i.Aliases), func(alias string) bool { return there[alias] == there[i.Ref] })
	if len(wrong) == 0 {
		return nil
	}
	for attempt := 1; ; attempt++ { // --force removes a name and then gives it, between which somebody else may have given it
		_, err := ctr(ctx, node, append([]string{"tag", "--force", i.Ref}, wrong...)...)
		if err == nil {
			return nil
		}
		if attempt == attempts || !strings.Contains(err.Error(), "already exists") {
			return fmt.Errorf("calling %s %s: %w", i.Ref, strings.Join(wrong, " and "), err)
		}
	}
}

// machines are the names of architectures that `uname` has, as GOARCH.
var machines = map[string]string{"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64", "riscv64": "riscv64", "ppc64le": "ppc64le", "s390x": "s390x"}

// fit sees to it that a node can run the images: a container of another architecture would fail with "exec format error".
func fit(ctx context.Context, node nodes.Node, images []Image) error {
	machine, err := run(ctx, node, "uname", "-m")
	if err != nil {
		return fmt.Errorf("asking for its architecture: %w", err)
	}
	is, known := machines[strings.TrimSpace(machine)]
	if !known {
		return nil // it will show
	}
	for _, i := range images {
		wants, err := i.architecture()
		if err != nil {
			return err
		}
		if wants != is {
			return fmt.Errorf("%s is for %s, and the node is %s: build it with GOARCH=%s", i.Ref, wants, is, is)
		}
	}
	return nil
}

// stream writes the image's archive into a node. When ctx ends the archive does, too, which containerd takes for an error.
func (i Image) stream(ctx context.Context, node nodes.Node) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	named := []oci.Named{{Ref: i.Ref, Image: i.image}}
	for _, alias := range i.Aliases {
		named = append(named, oci.Named{Ref: alias, Image: i.image})
	}
	read, write := io.Pipe()
	defer context.AfterFunc(ctx, func() { write.CloseWithError(context.Cause(ctx)) })()
	var packing errgroup.Group
	packing.Go(func() error {
		err := oci.Tarball(write, named...)
		write.CloseWithError(err)
		return err
	})
	err := nodeutils.LoadImageArchive(node, read)
	read.Close()
	if packed := packing.Wait(); packed != nil && !errors.Is(packed, io.ErrClosedPipe) {
		return packed
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return said(err, nil)
	}
	return nil
}
