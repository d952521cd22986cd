package oci_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/oci"
)

// write makes a file with a modification time that no other call gives, so that a digest in which time had a part would differ.
func write(t *testing.T, content string, at time.Time) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	require.NoError(t, os.Chtimes(path, at, at))
	return path
}

func layer(t *testing.T, files ...oci.File) v1.Layer {
	t.Helper()
	l, err := oci.NewLayer(files...)
	require.NoError(t, err)
	return l
}

func image(t *testing.T, config oci.Config, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := oci.NewImage(config, layers...)
	require.NoError(t, err)
	return img
}

func digest(t *testing.T, of interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	d, err := of.Digest()
	require.NoError(t, err)
	return d.String()
}

func headers(t *testing.T, l v1.Layer) []tar.Header {
	t.Helper()
	r, err := l.Uncompressed()
	require.NoError(t, err)
	defer r.Close()
	var all []tar.Header
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		all = append(all, *h)
	}
}

// requireHonest checks what a layer says of itself against its bytes.
func requireHonest(t *testing.T, l v1.Layer) {
	t.Helper()
	r, err := l.Compressed()
	require.NoError(t, err)
	got, size, err := v1.SHA256(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.Equal(t, digest(t, l), got.String())
	said, err := l.Size()
	require.NoError(t, err)
	require.Equal(t, size, said)
	diff, err := l.DiffID()
	require.NoError(t, err)
	require.Equal(t, got, diff, "nothing is compressed")
}

func TestTheSameContentsGiveTheSameLayer(t *testing.T) {
	t.Parallel()
	old, recent := write(t, "program", time.Unix(1, 0)), write(t, "program", time.Unix(2_000_000_000, 0))
	one := layer(t, oci.File{Path: "bin/app", Source: old}, oci.File{Path: "/etc/app/rules", Data: []byte("rules")})
	two := layer(t, oci.File{Path: "etc/app/rules", Data: []byte("rules")}, oci.File{Path: "/bin/app", Source: recent})
	require.Equal(t, digest(t, one), digest(t, two))
	// The digest itself: it must not depend on the version of Go, the file system or the account that builds.
	require.Equal(t, "sha256:7ceec34c", digest(t, one)[:15])

	for name, other := range map[string]oci.File{
		"another content": {Path: "bin/app", Data: []byte("progrom"), Mode: 0o755},
		"another path":    {Path: "bin/app2", Data: []byte("program"), Mode: 0o755},
		"another mode":    {Path: "bin/app", Data: []byte("program"), Mode: 0o700},
	} {
		changed := layer(t, other, oci.File{Path: "etc/app/rules", Data: []byte("rules")})
		require.NotEqual(t, digest(t, one), digest(t, changed), name)
	}
}

func TestLayerEntries(t *testing.T) {
	t.Parallel()
	l := layer(t,
		oci.File{Path: "usr/bin/app", Source: write(t, strings.Repeat("x", 513), time.Now())},
		oci.File{Path: "usr/bin/alias", Link: "app"},
		oci.File{Path: "etc/empty"},
		oci.File{Path: "etc/conf", Data: []byte("conf")},
		oci.File{Path: "usr/bin/su", Data: []byte("su"), Mode: 0o755 | fs.ModeSetuid},
	)
	type entry struct {
		name string
		mode int64
		size int64
		link string
	}
	var got []entry
	for _, h := range headers(t, l) {
		got = append(got, entry{h.Name, h.Mode, h.Size, h.Linkname})
		require.True(t, h.ModTime.Equal(time.Unix(0, 0)), h.Name)
		require.Zero(t, h.Uid+h.Gid, h.Name)
		require.Empty(t, h.Uname+h.Gname, h.Name)
	}
	require.Equal(t, []entry{
		{"etc/", 0o755, 0, ""},
		{"etc/conf", 0o644, 4, ""},
		{"etc/empty", 0o644, 0, ""},
		{"usr/", 0o755, 0, ""},
		{"usr/bin/", 0o755, 0, ""},
		{"usr/bin/alias", 0o777, 0, "app"},
		{"usr/bin/app", 0o755, 513, ""},
		{"usr/bin/su", 0o4755, 2, ""},
	}, got)
	requireHonest(t, l)
}

func TestALayerOfAnArchiveIsTheArchive(t *testing.T) {
	t.Parallel()
	r, err := layer(t, oci.File{Path: "etc/conf", Data: []byte("conf")}).Uncompressed()
	require.NoError(t, err)
	content, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	archive := write(t, string(content), time.Now())
	l, err := oci.TarLayer(archive)
	require.NoError(t, err)
	requireHonest(t, l)
	require.Equal(t, digest(t, layer(t, oci.File{Path: "etc/conf", Data: []byte("conf")})), digest(t, l))
	_, err = oci.TarLayer(archive + ".none")
	require.ErrorContains(t, err, "packing a layer")
}

func TestLayersThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files []oci.File
		want  string
	}{
		"no such file":      {[]oci.File{{Path: "a", Source: filepath.Join(t.TempDir(), "none")}}, "no such file"},
		"a folder":          {[]oci.File{{Path: "a", Source: t.TempDir()}}, "not a regular file"},
		"two of one path":   {[]oci.File{{Path: "/a"}, {Path: "b/../a"}}, "two files for /a"},
		"a file as folder":  {[]oci.File{{Path: "a"}, {Path: "a/b/c"}}, "both a file and the folder"},
		"the root":          {[]oci.File{{Path: "/"}}, "not a path of a file"},
		"two kinds at once": {[]oci.File{{Path: "a", Data: []byte("x"), Link: "y"}}, "more than one of"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := oci.NewLayer(c.files...)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestAFileThatChangesAfterItsLayerWasMadeIsNotStreamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ content, want string }{
		"another content": {"after!", "changed after its layer was made"},
		"shorter":         {"short", "became shorter"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := write(t, "before", time.Now())
			img := image(t, oci.Config{Entrypoint: []string{"/app"}}, layer(t, oci.File{Path: "app", Source: path}))
			require.NoError(t, oci.Tarball(io.Discard, oci.Named{Ref: "localhost/app:1", Image: img}))
			require.NoError(t, os.WriteFile(path, []byte(c.content), 0o600))
			require.ErrorContains(t, oci.Tarball(io.Discard, oci.Named{Ref: "localhost/app:1", Image: img}), c.want)
		})
	}
}

func TestConfigFields(t *testing.T) {
	t.Parallel()
	app := layer(t, oci.File{Path: "app", Data: []byte("app")})
	file, err := image(t, oci.Config{
		Entrypoint:   []string{"/app", "serve"},
		Cmd:          []string{"--help"},
		User:         "0",
		Env:          []string{"B=2", "A=1"},
		Labels:       map[string]string{"dev.meshtest": "true"},
		StopSignal:   "SIGINT",
		Architecture: "arm64",
	}, app).ConfigFile()
	require.NoError(t, err)
	require.Equal(t, v1.Config{
		Entrypoint: []string{"/app", "serve"},
		Cmd:        []string{"--help"},
		User:       "0",
		Env:        []string{"A=1", "B=2"},
		Labels:     map[string]string{"dev.meshtest": "true"},
		StopSignal: "SIGINT",
		WorkingDir: "/",
	}, file.Config)
	require.Equal(t, "linux", file.OS)
	require.Equal(t, "arm64", file.Architecture)
	require.True(t, file.Created.Time.Equal(time.Unix(0, 0)))
	require.Len(t, file.RootFS.DiffIDs, 1)

	file, err = image(t, oci.Config{Entrypoint: []string{"/app"}}, app).ConfigFile()
	require.NoError(t, err)
	require.Equal(t, "65532:65532", file.Config.User)
	require.Equal(t, runtime.GOARCH, file.Architecture)

	_, err = oci.NewImage(oci.Config{}, app)
	require.ErrorContains(t, err, "no entrypoint")
}

func TestTagFollowsContent(t *testing.T) {
	t.Parallel()
	tag := func(config oci.Config, content string) string {
		img := image(t, config, layer(t, oci.File{Path: "app", Data: []byte(content)}))
		tag, err := oci.Tag("localhost/meshtest/app", img)
		require.NoError(t, err)
		return tag
	}
	config := oci.Config{Entrypoint: []string{"/app"}, Labels: map[string]string{"a": "1", "b": "2", "c": "3"}}
	require.Regexp(t, `^localhost/meshtest/app:[0-9a-f]{16}$`, tag(config, "x"))
	require.Equal(t, tag(config, "x"), tag(config, "x"))
	require.NotEqual(t, tag(config, "x"), tag(config, "y"))
	require.NotEqual(t, tag(config, "x"), tag(oci.Config{Entrypoint: []string{"/app"}, User: "1"}, "x"))

	_, err := oci.Tag("Not A Repository", image(t, config))
	require.ErrorContains(t, err, "naming an image")
}

func TestTarballIsReadBack(t *testing.T) {
	t.Parallel()
	shared := layer(t, oci.File{Path: "shared", Source: write(t, strings.Repeat("shared", 1000), time.Now())})
	one := image(t, oci.Config{Entrypoint: []string{"/one"}}, shared, layer(t, oci.File{Path: "one", Data: []byte("1")}))
	two := image(t, oci.Config{Entrypoint: []string{"/two"}}, shared, layer(t, oci.File{Path: "two", Data: []byte("2")}))
	var archive bytes.Buffer
	require.NoError(t, oci.Tarball(&archive, oci.Named{Ref: "localhost/one:1", Image: one}, oci.Named{Ref: "localhost/two:2", Image: two}))

	opener := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil }
	for ref, wrote := range map[string]v1.Image{"localhost/one:1": one, "localhost/two:2": two} {
		tag, err := name.NewTag(ref)
		require.NoError(t, err)
		read, err := tarball.Image(opener, &tag)
		require.NoError(t, err)
		require.NoError(t, validate.Image(read))
		wantConfig, err := wrote.RawConfigFile()
		require.NoError(t, err)
		gotConfig, err := read.RawConfigFile()
		require.NoError(t, err)
		require.JSONEq(t, string(wantConfig), string(gotConfig))
		layers, err := read.Layers()
		require.NoError(t, err)
		require.Len(t, layers, 2)
		diff, err := layers[0].DiffID()
		require.NoError(t, err)
		require.Equal(t, digest(t, shared), diff.String())
	}

	layers := 0
	for files := tar.NewReader(&archive); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if strings.Contains(h.Name, ".tar") {
			layers++
		}
	}
	require.Equal(t, 3, layers, "a shared layer is written once")
}

func TestTarballOfOneImageIsTheSameBytes(t *testing.T) {
	t.Parallel()
	img := image(t, oci.Config{Entrypoint: []string{"/app"}}, layer(t, oci.File{Path: "app", Data: []byte("app")}))
	var one, two bytes.Buffer
	require.NoError(t, oci.Tarball(&one, oci.Named{Ref: "localhost/app:1", Image: img}))
	require.NoError(t, oci.Tarball(&two, oci.Named{Ref: "localhost/app:1", Image: img}))
	require.True(t, bytes.Equal(one.Bytes(), two.Bytes()))
	require.ErrorContains(t, oci.Tarball(io.Discard, oci.Named{Ref: "a b", Image: img}), "writing images")
	require.ErrorContains(t, oci.Tarball(brokenPipe{}, oci.Named{Ref: "localhost/app:1", Image: img}), "writing images localhost/app:1: closed")
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("closed") }

func TestBinary(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(source, []byte("package main\nfunc main() { println(\"hello\") }\n"), 0o600))
	build := func(name string, arguments ...string) string {
		out := filepath.Join(dir, name)
		cmd := exec.Command("go", append(append([]string{"build", "-o", out}, arguments...), source)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		output, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", output)
		return out
	}

	img, err := oci.NewBinary(build("hello"), oci.Config{})
	require.NoError(t, err)
	file, err := img.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, "amd64", file.Architecture)
	require.Equal(t, []string{"/hello"}, file.Config.Entrypoint)
	require.Equal(t, oci.NonRoot, file.Config.User)
	layers, err := img.Layers()
	require.NoError(t, err)
	require.Len(t, layers, 1)
	requireHonest(t, layers[0])
	require.Equal(t, "hello", headers(t, layers[0])[0].Name)

	_, err = oci.NewBinary(build("dynamic", "-buildmode=pie", "-ldflags=-linkmode=internal"), oci.Config{})
	require.ErrorContains(t, err, "needs a dynamic loader")

	_, err = oci.NewBinary(source, oci.Config{})
	require.ErrorContains(t, err, "reading the program")
}
