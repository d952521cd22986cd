package images

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/exec"

	"meshtest.dev/meshtest/internal/oci"
)

// program is the head of a static program for Linux, which is all that packing looks at.
func program(t *testing.T, machine elf.Machine, content string) string {
	t.Helper()
	var b bytes.Buffer
	head := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Ehsize: 64, Phentsize: 56, Shentsize: 64,
	}
	require.NoError(t, binary.Write(&b, binary.LittleEndian, head))
	b.WriteString(content)
	file := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(file, b.Bytes(), 0o755))
	return file
}

func build(t *testing.T, content string, aliases ...string) Image {
	t.Helper()
	i, err := Build(program(t, elf.EM_X86_64, content), "meshtest-x", aliases...)
	require.NoError(t, err)
	return i
}

func TestBuild(t *testing.T) {
	t.Parallel()
	one, again, other := build(t, "1"), build(t, "1"), build(t, "2")
	require.Equal(t, one.Ref, again.Ref)
	require.NotEqual(t, one.Ref, other.Ref)
	require.Regexp(t, `^localhost/meshtest-x:[0-9a-f]{16}$`, one.Ref)
	file, err := one.image.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, oci.NonRoot, file.Config.User)
	_, err = Build("/bin/sh", "meshtest-x")
	require.ErrorContains(t, err, "packing /bin/sh: /bin/sh needs a dynamic loader")
	_, err = Build(os.DevNull, "meshtest-x")
	require.Error(t, err)
}

func TestFilesOfAFolder(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "a", "b"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "a", "b", "text"), []byte("x"), 0o640))
	require.NoError(t, os.Symlink("b/text", filepath.Join(folder, "a", "link")))
	files, err := Files(folder, "/srv")
	require.NoError(t, err)
	require.Equal(t, []oci.File{{Path: "/srv/a/b/text", Source: filepath.Join(folder, "a", "b", "text"), Mode: 0o640}, {Path: "/srv/a/link", Link: "b/text"}}, files)
	i, err := Pack("site", oci.Config{Entrypoint: []string{"/srv/a/link"}}, files...)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(i.Ref, "localhost/site:"))
	_, err = Files(filepath.Join(folder, "none"), "/")
	require.Error(t, err)
	_, err = Files(t.TempDir(), "/")
	require.ErrorContains(t, err, "there are no files in it")
}

// fakeNode answers as a node does.
type fakeNode struct {
	nodes.Node
	machine string
	imports error
	heals   int // times that imports is the answer; 0: always

	mu   sync.Mutex
	has  map[string]string // image, by reference
	runs []string
}

func (n *fakeNode) String() string { return "x-worker" }

func (n *fakeNode) Command(name string, args ...string) exec.Cmd {
	return n.CommandContext(context.Background(), name, args...)
}

func (n *fakeNode) CommandContext(_ context.Context, name string, args ...string) exec.Cmd {
	return &fakeCmd{node: n, line: strings.Join(append([]string{name}, args...), " "), args: args}
}

type fakeCmd struct {
	node        *fakeNode
	line        string
	args        []string
	in          io.Reader
	out, errors io.Writer
}

func (c *fakeCmd) SetEnv(...string) exec.Cmd      { return c }
func (c *fakeCmd) SetStdin(r io.Reader) exec.Cmd  { c.in = r; return c }
func (c *fakeCmd) SetStdout(w io.Writer) exec.Cmd { c.out = w; return c }
func (c *fakeCmd) SetStderr(w io.Writer) exec.Cmd { c.errors = w; return c }

func (c *fakeCmd) Run() error {
	n := c.node
	n.mu.Lock()
	defer n.mu.Unlock()
	n.runs = append(n.runs, c.line)
	switch {
	case c.line == "uname -m":
		_, _ = io.WriteString(c.out, n.machine+"\n")
	case strings.HasPrefix(c.line, "containerd config dump"):
		_, _ = io.WriteString(c.out, "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"overlayfs\"\n")
	case strings.Contains(c.line, "images ls"):
		_, _ = io.WriteString(c.out, "REF TYPE DIGEST SIZE PLATFORMS LABELS\n")
		for ref, digest := range n.has {
			_, _ = io.WriteString(c.out, ref+" application/vnd.docker.distribution.manifest.v2+json "+digest+" 9.0 MiB linux/amd64 -\n")
		}
	case strings.Contains(c.line, "images tag --force"):
		for _, alias := range c.args[5:] {
			n.has[alias] = n.has[c.args[4]]
		}
	case strings.Contains(c.line, "images import"):
		return n.take(c.in)
	default:
		return errors.New("unknown command: " + c.line)
	}
	return nil
}

// take reads an archive to its end.
func (n *fakeNode) take(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if n.imports != nil && (n.heals == 0 || n.imported() <= n.heals) {
		return n.imports
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	manifest, err := tarball.LoadManifest(open)
	if err != nil {
		return err
	}
	for _, m := range manifest {
		for _, ref := range m.RepoTags {
			n.has[ref] = m.Config
		}
	}
	return nil
}

func newNode() *fakeNode { return &fakeNode{machine: "x86_64", has: map[string]string{}} }

func (n *fakeNode) imported() int { return n.ran("images import") }

// ran is how often a command was run.
func (n *fakeNode) ran(command string) int {
	count := 0
	for _, line := range n.runs {
		if strings.Contains(line, command) {
			count++
		}
	}
	return count
}

const alias = "localhost/meshtest-x:1"

func TestLoadingIsOncePerChange(t *testing.T) {
	t.Parallel()
	a, b := newNode(), newNode()
	one, two := build(t, "1", alias), build(t, "2", alias)
	for range 2 {
		require.NoError(t, Load(t.Context(), []nodes.Node{a, b}, one))
	}
	for _, n := range []*fakeNode{a, b} {
		require.Equal(t, 1, n.imported())
		require.Contains(t, n.has, one.Ref)
		require.Contains(t, n.has, alias)
	}
	require.NoError(t, Load(t.Context(), []nodes.Node{a}, two))
	require.Equal(t, 2, a.imported())
	require.NoError(t, Load(t.Context(), []nodes.Node{a}, one))
	require.Equal(t, 2, a.imported())
	require.Equal(t, a.has[one.Ref], a.has[alias], "an alias follows what was loaded last")
	require.NotEqual(t, a.has[two.Ref], a.has[alias])
	require.Equal(t, 1, a.ran("images tag"), "it is not given to the same image again")
}

func TestLoadingThatFails(t *testing.T) {
	t.Parallel()
	one := build(t, "1")
	n := newNode()
	n.machine = "aarch64"
	require.EqualError(t, Load(t.Context(), []nodes.Node{n}, one), "loading images into node x-worker: "+one.Ref+" is for amd64, and the node is arm64: build it with GOARCH=arm64")
	require.Zero(t, n.imported())

	n = newNode()
	n.imports = &exec.RunError{Command: []string{"ctr"}, Output: []byte("unpacking\nctr: no space left on device\n"), Inner: errors.New("exit status 1")}
	require.EqualError(t, Load(t.Context(), []nodes.Node{n}, one), "loading images into node x-worker: "+one.Ref+": ctr: no space left on device")

	n = newNode()
	n.imports, n.heals = errors.New("ctr: image already exists"), 2
	require.NoError(t, Load(t.Context(), []nodes.Node{n}, one), "somebody else brings the same")
	require.Equal(t, 3, n.imported())

	n = newNode()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("interrupted")
	cancel(cause)
	require.ErrorIs(t, one.stream(ctx, n), cause)
	require.Empty(t, n.has, "what is cut short is not loaded")
}

func TestPush(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	prefix := strings.TrimPrefix(server.URL, "http://") + "/team/"
	one, two := build(t, "1"), build(t, "2")
	refs, err := Push(t.Context(), prefix, one, two)
	require.NoError(t, err)
	for n, i := range []Image{one, two} {
		require.Equal(t, strings.TrimSuffix(prefix, "/")+strings.TrimPrefix(i.Ref, Local), refs[n])
		ref, err := name.ParseReference(refs[n])
		require.NoError(t, err)
		there, err := remote.Image(ref)
		require.NoError(t, err)
		want, err := i.image.Digest()
		require.NoError(t, err)
		got, err := there.Digest()
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err = Push(t.Context(), "not a registry", one)
	require.ErrorContains(t, err, "pushing not a registry/meshtest-x:")
}

func TestARegistryThatRefuses(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	_, err := Push(t.Context(), host+"/team", build(t, "1"))
	require.ErrorContains(t, err, "the registry does not let this user write: log in with `docker login "+host+"`")
}
