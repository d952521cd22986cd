// Package oci packs our own binaries, and anybody's files, into container images without Docker: each is a set of layers over nothing, with a
// name that follows from its content, streamed into the nodes of a cluster that may have no registry. What runs in such an image is alone
// there: no shell, no package, no account but the number it runs as.
//
// An image is deterministic. Its tag is a digest of its configuration and layers, so a node that has the tag has the image, and an image is
// loaded once for each change of what is in it.
package oci

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// NonRoot is the user and group that an image runs as when its Config names none: the number by which distroless images call "nonroot",
// which manifests and Pod Security's runAsNonRoot check by number.
const NonRoot = "65532:65532"

// Config is what an image says of itself beside its layers.
type Config struct {
	// Entrypoint is the program and the arguments that always precede a container's own; required.
	Entrypoint []string
	// Cmd are the arguments of a container that gives none.
	Cmd []string
	// User is a number, or number:number. Empty means NonRoot.
	User string
	// Env holds NAME=value.
	Env []string
	// Labels are the image's labels.
	Labels map[string]string
	// StopSignal is what asks the program to end; empty means SIGTERM.
	StopSignal string
	// Architecture is a GOARCH. Empty means this program's. The system is always linux.
	Architecture string
}

// NewImage stacks layers, the first one lowest, under a configuration. Layers may be shared by several images.
func NewImage(config Config, layers ...v1.Layer) (v1.Image, error) {
	if len(config.Entrypoint) == 0 {
		return nil, errors.New("making an image: it has no entrypoint")
	}
	if config.User == "" {
		config.User = NonRoot
	}
	if config.Architecture == "" {
		config.Architecture = runtime.GOARCH
	}
	image, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return nil, fmt.Errorf("making an image: %w", err)
	}
	base, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("making an image: %w", err)
	}
	file := base.DeepCopy()
	file.OS, file.Architecture = "linux", config.Architecture
	file.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	file.History = nil // says nothing that the layers do not, and would have to carry times
	file.Config = v1.Config{
		Entrypoint: config.Entrypoint,
		Cmd:        config.Cmd,
		User:       config.User,
		Env:        slices.Sorted(slices.Values(config.Env)),
		Labels:     config.Labels,
		WorkingDir: "/",
		StopSignal: config.StopSignal,
	}
	if image, err = mutate.ConfigFile(image, file); err != nil {
		return nil, fmt.Errorf("making an image: %w", err)
	}
	return image, nil
}

// tagDigits of a digest make a tag: 64 bits, so that images of one repository do not meet by chance.
const tagDigits = 16

// Tag names an image by its content: REPOSITORY:DIGITS of the digest of its manifest, which covers the configuration and every layer. A
// repository whose first part is localhost (localhost/meshtest/sidecar) is one that no container runtime asks a registry for.
func Tag(repository string, image v1.Image) (string, error) {
	digest, err := image.Digest()
	if err != nil {
		return "", fmt.Errorf("naming an image of %s: %w", repository, err)
	}
	tag := repository + ":" + digest.Hex[:tagDigits]
	if _, err := name.NewTag(tag, name.StrictValidation); err != nil {
		return "", fmt.Errorf("naming an image of %s: %w", repository, err)
	}
	return tag, nil
}

// Named is an image under the name by which pods ask for it.
type Named struct {
	Ref   string
	Image v1.Image
}

// Tarball writes images as one archive in the form of "docker save", which Docker, containerd and kind's LoadImageArchive read as a stream.
// A layer that several images share is written once. Nothing is held in memory but configurations and data, so an archive can be as large as its
// files. An archive of one image is the same bytes each time; of several, their order in it is not fixed.
func Tarball(w io.Writer, images ...Named) error {
	set := make(map[name.Reference]v1.Image, len(images))
	for _, named := range images {
		ref, err := name.NewTag(named.Ref)
		if err != nil {
			return fmt.Errorf("writing images: %w", err)
		}
		set[ref] = named.Image
	}
	if err := tarball.MultiRefWrite(set, w); err != nil {
		return fmt.Errorf("writing images %s: %w", refs(images), err)
	}
	return nil
}

func refs(images []Named) string {
	all := make([]string, len(images))
	for i, named := range images {
		all[i] = named.Ref
	}
	return strings.Join(all, ", ")
}
