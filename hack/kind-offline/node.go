package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"meshtest.dev/meshtest/internal/oci"
)

// kubernetesVersion is what nodes run. 1.35 and later refuse hosts with version 1 of control groups by default.
const kubernetesVersion = "1.34.4"

// repository is the name of node images, beside their tags.
const repository = "kind-offline/node"

// recipe is what the node image is made by: with the version of Kubernetes and of kind, its digest names the image.
//
//go:embed *.go *.sh cni.yaml cni/*.go pause/*.go
var recipe embed.FS

//go:embed node.sh
var nodeScript string

//go:embed cni.yaml
var cniManifest string

// nodeImage returns the name of a node image in the container engine, making what is missing.
func nodeImage(ctx context.Context, s *store) (name string, err error) {
	kind, err := kindModule(ctx)
	if err != nil {
		return "", err
	}
	digest, err := recipeDigest(recipe, kind.Version)
	if err != nil {
		return "", err
	}
	name = repository + ":v" + kubernetesVersion + "-" + digest
	if _, err := (command{name: "docker", arguments: []string{"image", "inspect", name}}).run(ctx); err == nil {
		return name, nil
	}
	if os.Geteuid() != 0 {
		return "", errors.New("making a node image needs root, for debootstrap and chroot")
	}
	archive, err := nodeArchive(ctx, s, kind, digest)
	if err != nil {
		return "", err
	}
	say("%s: handing it to the container engine", name)
	if err := load(ctx, s, archive, name); err != nil {
		return "", err
	}
	return name, removeOlderImages(ctx, name)
}

// removeOlderImages removes the node images of earlier recipes, except those that a cluster still runs on.
func removeOlderImages(ctx context.Context, but string) error {
	out, err := command{name: "docker", arguments: []string{"images", repository, "--format", "{{.Repository}}:{{.Tag}}"}}.run(ctx)
	if err != nil {
		return fmt.Errorf("listing older node images: %w", err)
	}
	for _, older := range strings.Fields(out) {
		if older == but {
			continue
		}
		if _, err := (command{name: "docker", arguments: []string{"rmi", older}}).run(ctx); err != nil {
			say("%s stays: %v", older, err)
		}
	}
	return nil
}

// load gives the engine the image of a node's file system.
func load(ctx context.Context, s *store, archive, name string) error {
	layer, err := oci.TarLayer(archive)
	if err != nil {
		return err
	}
	image, err := oci.NewImage(oci.Config{
		User:       "0",
		Entrypoint: []string{"/usr/local/bin/entrypoint", "/sbin/init"},
		Env:        []string{"container=docker", "PATH=" + searchPath}, // the first tells systemd what it runs in
		StopSignal: "SIGRTMIN+3",                                       // by which systemd shuts down
	}, layer)
	if err != nil {
		return err
	}
	reader, writer := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := oci.Tarball(writer, oci.Named{Ref: name, Image: image})
		writer.CloseWithError(err)
		written <- err
	}()
	_, err = command{name: "docker", arguments: []string{"load", "--quiet"}, stdin: reader, log: s.log("node")}.run(ctx)
	reader.CloseWithError(err) // ends the writer when the engine did not read to the end
	if writing := <-written; !errors.Is(writing, io.ErrClosedPipe) {
		err = errors.Join(err, writing)
	}
	if err != nil {
		return fmt.Errorf("handing the node image to the engine: %w", err)
	}
	return nil
}

// module is a Go module on this machine.
type module struct{ Version, Dir string }

// kindModule finds kind as this repository requires it: its own files for nodes are part of it.
func kindModule(ctx context.Context) (m module, err error) {
	out, err := command{name: "go", arguments: []string{"mod", "download", "-json", "sigs.k8s.io/kind"}}.run(ctx)
	if err != nil {
		return m, fmt.Errorf("finding kind: %w", err)
	}
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		return m, fmt.Errorf("finding kind: %w", err)
	}
	return m, nil
}

func recipeDigest(files fs.FS, kind string) (string, error) {
	sum := sha256.New()
	fmt.Fprintf(sum, "kind %s\n", kind)
	err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := fs.ReadFile(files, path)
		fmt.Fprintf(sum, "%s %d\n%s", path, len(data), data)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("reading the recipe: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil))[:12], nil
}

// nodeArchive returns the archive of a node's whole file system.
func nodeArchive(ctx context.Context, s *store, kind module, digest string) (string, error) {
	files := filepath.Join(kind.Dir, "images", "base", "files")
	p, w, err := compileAll(ctx, s, files, digest)
	if err != nil {
		return "", err
	}
	tree, err := debian(ctx, s, nodePackages)
	if err != nil {
		return "", err
	}
	const name = "node.tar"
	folder, err := s.part(ctx, "node", func(ctx context.Context, folder string) error {
		root := filepath.Join(folder, "root")
		if _, err := (command{name: "cp", arguments: []string{"-a", tree, root}}).run(ctx); err != nil {
			return err
		}
		if err := furnish(ctx, root, files, p, w, tree); err != nil {
			return err
		}
		script := command{
			name: "/bin/sh", arguments: []string{"-s"}, stdin: strings.NewReader(nodeScript),
			root: root, folder: "/", env: treeEnv, isolated: true, log: s.log("node"),
		}
		if _, err := script.run(ctx); err != nil {
			return err
		}
		tar := []string{"--numeric-owner", "-C", root, "-cf", filepath.Join(folder, name), "."}
		if _, err := (command{name: "tar", arguments: tar}).run(ctx); err != nil {
			return err
		}
		return os.RemoveAll(root)
	}, digest, kind.Version, tree, p)
	return filepath.Join(folder, name), err
}

// compileAll makes every program of a node and of the pods that a fresh cluster has. kubeadm comes first, because it says which images, and so
// which versions of etcd and CoreDNS, belong to this Kubernetes.
func compileAll(ctx context.Context, s *store, kindFiles, digest string) (p programs, w wanted, err error) {
	p = programs{}
	k8s := upstream{
		Module:  "k8s.io/kubernetes",
		Version: "v" + kubernetesVersion,
		Staging: "v0" + strings.TrimPrefix(kubernetesVersion, "1"),
		Flags:   versionFlags(kubernetesVersion),
	}
	if p["kubeadm"], err = s.compile(ctx, k8s, k8s.Module+"/cmd/kubeadm", "kubeadm"); err != nil {
		return nil, nil, err
	}
	list, err := command{name: p["kubeadm"], arguments: []string{"config", "images", "list", "--kubernetes-version", "v" + kubernetesVersion}}.run(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("asking kubeadm for its images: %w", err)
	}
	containerd, err := os.ReadFile(filepath.Join(kindFiles, "etc", "containerd", "config.toml"))
	if err != nil {
		return nil, nil, fmt.Errorf("reading kind's files: %w", err)
	}
	if w, err = imageList(list, string(containerd)); err != nil {
		return nil, nil, err
	}
	for _, name := range []string{"kubelet", "kubectl", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		if p[name], err = s.compile(ctx, k8s, k8s.Module+"/cmd/"+name, name); err != nil {
			return nil, nil, err
		}
	}
	for name, module := range map[string]string{"etcd": "go.etcd.io/etcd/server/v3", "coredns": "github.com/coredns/coredns"} {
		version, err := w.version(name)
		if err != nil {
			return nil, nil, err
		}
		if p[name], err = s.compile(ctx, upstream{Module: module, Version: version}, module, name); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range []string{"cni", "pause"} {
		if p[name], err = s.compileOwn(ctx, name, digest); err != nil {
			return nil, nil, err
		}
	}
	return p, w, nil
}

// versionFlags are the linker's flags by which a build of Kubernetes knows its version; kubeadm and the kubelet refuse to work without.
func versionFlags(version string) string {
	parts := strings.Split(version, ".")
	var flags []string
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for _, set := range []string{"gitVersion=v" + version, "gitMajor=" + parts[0], "gitMinor=" + parts[1], "gitTreeState=clean"} {
			flags = append(flags, "-X "+pkg+"."+set)
		}
	}
	return strings.Join(flags, " ")
}

// furnish puts kind's files, Kubernetes, the images and the network's manifest into a tree.
func furnish(ctx context.Context, root, kindFiles string, p programs, w wanted, tree string) error {
	if err := copyFiles(kindFiles, root); err != nil {
		return fmt.Errorf("copying kind's files: %w", err)
	}
	for _, name := range []string{"kubeadm", "kubelet", "kubectl"} {
		if err := copyFile(p[name], filepath.Join(root, "usr", "bin", name), 0o755); err != nil {
			return err
		}
	}
	cniImage, err := pack(ctx, filepath.Join(root, "kind", "images.tar"), w, p, tree)
	if err != nil {
		return err
	}
	manifest, err := template.New("cni").Delims("[[", "]]").Parse(cniManifest)
	if err != nil {
		return fmt.Errorf("filling in the network's manifest: %w", err)
	}
	var text strings.Builder
	if err := manifest.Execute(&text, struct{ Image string }{cniImage}); err != nil {
		return fmt.Errorf("filling in the network's manifest: %w", err)
	}
	for path, content := range map[string]string{"kind/version": "v" + kubernetesVersion, "kind/manifests/default-cni.yaml": text.String()} {
		file := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// copyFiles copies a folder over another. Modes follow kind's rule, as module downloads do not keep them: programs are in folders named bin.
func copyFiles(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, inside)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		mode := fs.FileMode(0o644)
		if filepath.Base(filepath.Dir(path)) == "bin" {
			mode = 0o755
		}
		return copyFile(path, target, mode)
	})
}

func copyFile(from, to string, mode fs.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, data, mode); err != nil {
		return err
	}
	return os.Chmod(to, mode)
}
