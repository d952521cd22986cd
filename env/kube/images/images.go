// Package images brings programs, packed as images without any container tool, into a cluster: streamed into the nodes of a kind cluster, or pushed to a registry. An image is brought once
// for each change of what is in it, because its name is a digest of that.
package images

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"meshtest.dev/meshtest/internal/oci"
)

// Local is the registry's name of images that are in no registry.
const Local = "localhost"

// Image is an image under its name.
type Image struct {
	Ref     string   // localhost/REPOSITORY:DIGEST
	Aliases []string // other references, which follow the newest image
	image   v1.Image
}

// Build packs a static binary for Linux, such as repository "meshtest-sidecar", alone and as a user that is not root. A binary that needs a dynamic loader is an error.
func Build(binary, repository string, aliases ...string) (Image, error) {
	return BuildWith(binary, repository, oci.Config{}, aliases...)
}

// BuildWith is Build with a configuration.
func BuildWith(binary, repository string, config oci.Config, aliases ...string) (Image, error) {
	made, err := oci.NewBinary(binary, config)
	if err != nil {
		return Image{}, fmt.Errorf("packing %s: %w", binary, err)
	}
	return New(made, repository, aliases...)
}

// Pack packs files, such as those of [Files], for this machine's architecture unless the configuration says another one. Its entrypoint is required.
func Pack(repository string, config oci.Config, files ...oci.File) (Image, error) {
	layer, err := oci.NewLayer(files...)
	if err != nil {
		return Image{}, fmt.Errorf("packing %s: %w", repository, err)
	}
	made, err := oci.NewImage(config, layer)
	if err != nil {
		return Image{}, fmt.Errorf("packing %s: %w", repository, err)
	}
	return New(made, repository)
}

// Files are what is in a folder of this machine, to stand under a folder of an image. Symbolic links stay what they are; what is no file is an error.
func Files(folder, under string) ([]oci.File, error) {
	var all []oci.File
	err := filepath.WalkDir(folder, func(at string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		within, err := filepath.Rel(folder, at)
		if err != nil {
			return err
		}
		f := oci.File{Path: path.Join(under, filepath.ToSlash(within))}
		switch info, err := entry.Info(); {
		case err != nil:
			return err
		case info.Mode()&fs.ModeSymlink != 0:
			if f.Link, err = os.Readlink(at); err != nil {
				return err
			}
		case info.Mode().IsRegular():
			f.Source, f.Mode = at, info.Mode()&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)
		default:
			return fmt.Errorf("%s is neither a file nor a link", at)
		}
		all = append(all, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("packing %s: %w", folder, err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("packing %s: %w", folder, errors.New("there are no files in it"))
	}
	return all, nil
}

// New names an image that was made otherwise.
func New(made v1.Image, repository string, aliases ...string) (Image, error) {
	ref, err := oci.Tag(path.Join(Local, repository), made)
	if err != nil {
		return Image{}, fmt.Errorf("naming the image %s: %w", repository, err)
	}
	return Image{Ref: ref, Aliases: aliases, image: made}, nil
}

// architecture is the image's, as GOARCH.
func (i Image) architecture() (string, error) {
	file, err := i.image.ConfigFile()
	if err != nil {
		return "", fmt.Errorf("reading the image %s: %w", i.Ref, err)
	}
	return file.Architecture, nil
}
