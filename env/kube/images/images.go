// Package images brings our own programs, packed as images, into a cluster: streamed into the nodes of a kind cluster, or pushed to a registry. An image is brought once for each change
// of what is in it, because its name is a digest of that.
package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"

	"meshtest.dev/meshtest/internal/oci"
)

// Local is the registry's name of images that are in no registry.
const Local = "localhost"

// Image is an image under its name.
type Image struct {
	Ref     string   // REPOSITORY:DIGEST
	Aliases []string // other references, which follow the newest image
	image   v1.Image
}

// Build packs a static binary for Linux, such as repository "meshtest-sidecar", alone and as a user that is not root.
func Build(binary, repository string, aliases ...string) (Image, error) {
	made, err := oci.NewBinary(binary, oci.Config{})
	if err != nil {
		return Image{}, fmt.Errorf("packing %s: %w", binary, err)
	}
	return New(made, repository, aliases...)
}

// New names an image that was made otherwise.
func New(made v1.Image, repository string, aliases ...string) (Image, error) {
	ref, err := oci.Tag(path.Join(Local, repository), made)
	if err != nil {
		return Image{}, fmt.Errorf("naming the image %s: %w", repository, err)
	}
	return Image{Ref: ref, Aliases: aliases, image: made}, nil
}

// Load brings images into the nodes that have not got them. Several processes may do so at once.
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

func load(ctx context.Context, node nodes.Node, images []Image) error {
	there, err := list(ctx, node)
	if err != nil {
		return err
	}
	for _, i := range images {
		if slices.Contains(there, i.Ref) {
			if err := i.point(ctx, node); err != nil {
				return err
			}
			continue
		}
		if err := i.load(node); err != nil {
			return fmt.Errorf("%s: %w", i.Ref, err)
		}
	}
	return nil
}

// ctr is containerd's own client in a node. Not every node image has another one.
func ctr(ctx context.Context, node nodes.Node, args ...string) (string, error) {
	var out, stderr bytes.Buffer
	args = append([]string{"--namespace=k8s.io", "images"}, args...)
	if err := node.CommandContext(ctx, "ctr", args...).SetStdout(&out).SetStderr(&stderr).Run(); err != nil {
		return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return out.String(), nil
}

func list(ctx context.Context, node nodes.Node) ([]string, error) {
	out, err := ctr(ctx, node, "ls", "--quiet")
	if err != nil {
		return nil, fmt.Errorf("listing images: %w", err)
	}
	return strings.Fields(out), nil
}

// point makes the aliases mean this image.
func (i Image) point(ctx context.Context, node nodes.Node) error {
	if len(i.Aliases) == 0 {
		return nil
	}
	_, err := ctr(ctx, node, append([]string{"tag", "--force", i.Ref}, i.Aliases...)...)
	return err
}

// load streams the image into a node.
func (i Image) load(node nodes.Node) error {
	named := []oci.Named{{Ref: i.Ref, Image: i.image}}
	for _, alias := range i.Aliases {
		named = append(named, oci.Named{Ref: alias, Image: i.image})
	}
	read, write := io.Pipe()
	go func() { write.CloseWithError(oci.Tarball(write, named...)) }()
	err := nodeutils.LoadImageArchive(node, read)
	return errors.Join(err, read.Close())
}

// Push brings images to a registry, under a prefix such as registry.example.com/meshtest, with the credentials of the user's container tools. It returns their references there.
func Push(ctx context.Context, prefix string, images ...Image) ([]string, error) {
	refs := make([]string, len(images))
	g, ctx := errgroup.WithContext(ctx)
	for n, i := range images {
		g.Go(func() error {
			text := prefix + strings.TrimPrefix(i.Ref, Local)
			ref, err := name.ParseReference(text)
			if err != nil {
				return fmt.Errorf("pushing %s: %w", text, err)
			}
			if err := remote.Write(ref, i.image, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
				return fmt.Errorf("pushing %s: %w", text, err)
			}
			refs[n] = text
			return nil
		})
	}
	return refs, g.Wait()
}
