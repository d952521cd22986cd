package main

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"meshtest.dev/meshtest/internal/oci"
)

// programs are the compiled programs, by name.
type programs map[string]string

// wanted are the images that a node must hold, by the name of the program in each.
type wanted map[string][]string

// imageList reads names of images, as "kubeadm config images list" prints them, and adds the image for sandboxes that kind's configuration of
// containerd names.
func imageList(list, containerd string) (wanted, error) {
	sandbox := sandboxImage.FindStringSubmatch(containerd)
	if sandbox == nil {
		return nil, fmt.Errorf("kind's configuration of containerd names no sandbox_image")
	}
	all := wanted{}
	seen := map[string]bool{}
	for _, ref := range append(strings.Fields(list), sandbox[1]) {
		program, _, tagged := strings.Cut(path.Base(ref), ":")
		if !tagged {
			return nil, fmt.Errorf("kubeadm names the image %q, which has no tag", ref)
		}
		if !seen[ref] {
			all[program] = append(all[program], ref)
		}
		seen[ref] = true
	}
	return all, nil
}

var sandboxImage = regexp.MustCompile(`(?m)^\s*sandbox_image\s*=\s*"([^"]+)"`)

// version is the version of a program's source, as a Go module's, that the tag of its image says: v3.6.5 for 3.6.5-0.
func (w wanted) version(program string) (string, error) {
	refs := w[program]
	if len(refs) == 0 {
		return "", fmt.Errorf("kubeadm names no image of %s", program)
	}
	_, tag, _ := strings.Cut(path.Base(refs[0]), ":")
	number, _, _ := strings.Cut(strings.TrimPrefix(tag, "v"), "-")
	return "v" + number, nil
}

// pack writes the archive of all images that pods of a fresh cluster ask for, and returns the name of the network daemon's, which is ours.
func pack(ctx context.Context, archive string, w wanted, p programs, tree string) (cniImage string, err error) {
	filters, err := packetFilters(ctx, tree)
	if err != nil {
		return "", err
	}
	var all []oci.Named
	for program, refs := range w {
		if p[program] == "" {
			return "", fmt.Errorf("kubeadm asks for %s, which this program does not know how to make", strings.Join(refs, ", "))
		}
		config := oci.Config{User: "0"} // as their manifests expect: certificates and low ports
		var more []oci.File
		switch program {
		case "kube-proxy":
			more = filters
		case "pause":
			config.User = oci.NonRoot
		}
		image, err := imageOf(p[program], config, more)
		if err != nil {
			return "", err
		}
		for _, ref := range refs {
			all = append(all, oci.Named{Ref: ref, Image: image})
		}
	}
	cni, err := imageOf(p["cni"], oci.Config{User: "0"}, nil)
	if err != nil {
		return "", err
	}
	if cniImage, err = oci.Tag("localhost/kind-offline/cni", cni); err != nil {
		return "", err
	}
	f, err := os.Create(archive)
	if err != nil {
		return "", fmt.Errorf("packing the images: %w", err)
	}
	defer f.Close()
	if err := oci.Tarball(f, append(all, oci.Named{Ref: cniImage, Image: cni})...); err != nil {
		return "", err
	}
	return cniImage, f.Close()
}

// imageOf puts a program where every PATH finds it, above other files if there are any.
func imageOf(program string, config oci.Config, more []oci.File) (v1.Image, error) {
	architecture, err := oci.Static(program)
	if err != nil {
		return nil, err
	}
	at := "/usr/local/bin/" + filepath.Base(program)
	config.Architecture, config.Entrypoint, config.Env = architecture, []string{at}, []string{"PATH=" + searchPath}
	var layers []v1.Layer
	for _, files := range [][]oci.File{more, {{Path: at, Source: program}}} {
		if len(files) == 0 {
			continue
		}
		layer, err := oci.NewLayer(files...)
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	return oci.NewImage(config, layers...)
}
