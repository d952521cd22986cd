package oci

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A File is one entry of a layer. Exactly one of Source, Data and Link says what it holds; an empty Data is an empty file.
type File struct {
	// Path is where the file stands in the image, from its root, with or without a leading slash.
	Path string
	// Source is a regular file of this machine; it is read when the layer is made and again each time that it is streamed.
	Source string
	// Data is the content itself.
	Data []byte
	// Link makes the entry a symbolic link to this target, which may lie outside the layer.
	Link string
	// Mode holds the permission bits, the set-id bits included. Zero means 0755 for a Source and 0644 for Data.
	Mode fs.FileMode
}

const (
	block      = 512       // of a tar archive: headers and contents are padded to it
	endOfTar   = 2 * block // two zero blocks end an archive
	defaultDir = fs.FileMode(0o755)
)

// NewLayer packs files, and the folders that they stand in, into one layer, owned by root. The same contents give the same layer: entries are
// sorted, carry no time and no name of an account, and the archive is not compressed, so its digest does not depend on a compressor's version
// either (a node on this machine takes it over a pipe, where compression costs more than it saves).
//
// The layer holds no content: a Source that changes after NewLayer makes the layer's readers fail at their end.
func NewLayer(files ...File) (v1.Layer, error) {
	entries, err := entriesOf(files)
	if err != nil {
		return nil, err
	}
	return layerOf(partsOf(entries))
}

// TarLayer makes a layer of a tar archive of this machine that is not compressed, for a file system with owners, devices or times that NewLayer does
// not keep. The archive is not held in memory, and must not change while the layer is used.
func TarLayer(archive string) (v1.Layer, error) {
	info, err := os.Stat(archive)
	if err != nil {
		return nil, fmt.Errorf("packing a layer: %w", err)
	}
	return layerOf([]part{{source: archive, size: info.Size()}})
}

// layerOf reads the parts once to know their digest.
func layerOf(parts []part) (v1.Layer, error) {
	l := &layer{parts: parts}
	sum := sha256.New()
	r := &reader{parts: parts}
	defer r.Close()
	var err error
	if l.size, err = io.Copy(sum, r); err != nil {
		return nil, fmt.Errorf("packing a layer: %w", err)
	}
	l.digest = digestOf(sum)
	return l, nil
}

// entry is the tar header of one file, encoded, and what follows it.
type entry struct {
	header []byte
	source string
	data   []byte
	size   int64
}

func entriesOf(files []File) ([]entry, error) {
	byPath := map[string]File{}
	for _, f := range files {
		name := path.Clean("/" + f.Path)[1:]
		if name == "" {
			return nil, fmt.Errorf("packing a layer: %q is not a path of a file", f.Path)
		}
		if _, twice := byPath[name]; twice {
			return nil, fmt.Errorf("packing a layer: two files for /%s", name)
		}
		byPath[name] = f
	}
	folders := map[string]bool{}
	for name := range byPath {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, file := byPath[dir]; file {
				return nil, fmt.Errorf("packing a layer: /%s is both a file and the folder of /%s", dir, name)
			}
			folders[dir] = true
		}
	}
	names := slices.Sorted(maps.Keys(byPath))
	names = slices.Sorted(slices.Values(slices.AppendSeq(names, maps.Keys(folders))))
	entries := make([]entry, 0, len(names))
	for _, name := range names {
		e, err := folder(name)
		if !folders[name] {
			e, err = file(name, byPath[name])
		}
		if err != nil {
			return nil, fmt.Errorf("packing /%s: %w", name, err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func folder(name string) (entry, error) {
	return encode(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: int64(defaultDir)}, entry{})
}

func file(name string, f File) (entry, error) {
	kinds := 0
	for _, given := range []bool{f.Source != "", f.Data != nil, f.Link != ""} {
		if given {
			kinds++
		}
	}
	if kinds > 1 {
		return entry{}, errors.New("more than one of source, data and link")
	}
	switch {
	case f.Link != "":
		return encode(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: f.Link, Mode: 0o777}, entry{})
	case f.Source == "":
		return encode(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode(f.Mode, 0o644)}, entry{data: f.Data, size: int64(len(f.Data))})
	}
	info, err := os.Stat(f.Source)
	if err != nil {
		return entry{}, err
	}
	if !info.Mode().IsRegular() {
		return entry{}, fmt.Errorf("%s is not a regular file", f.Source)
	}
	return encode(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode(f.Mode, 0o755)}, entry{source: f.Source, size: info.Size()})
}

// mode gives a file's permission bits as tar writes them.
func mode(given, otherwise fs.FileMode) int64 {
	if given == 0 {
		given = otherwise
	}
	bits := int64(given.Perm())
	for bit, value := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if given&bit != 0 {
			bits |= value
		}
	}
	return bits
}

func encode(h tar.Header, e entry) (entry, error) {
	h.Size = e.size
	var buf bytes.Buffer
	if err := tar.NewWriter(&buf).WriteHeader(&h); err != nil {
		return entry{}, err
	}
	e.header = buf.Bytes()
	return e, nil
}

// layer implements v1.Layer over parts of an archive. Nothing is compressed, so what is distributed is what is unpacked.
type layer struct {
	parts  []part
	digest v1.Hash
	size   int64
}

func (l *layer) Digest() (v1.Hash, error)            { return l.digest, nil }
func (l *layer) DiffID() (v1.Hash, error)            { return l.digest, nil }
func (l *layer) Size() (int64, error)                { return l.size, nil }
func (l *layer) MediaType() (types.MediaType, error) { return types.DockerUncompressedLayer, nil }
func (l *layer) Compressed() (io.ReadCloser, error)  { return l.Uncompressed() }
func (l *layer) Uncompressed() (io.ReadCloser, error) {
	return &verified{reader: &reader{parts: l.parts}, sum: sha256.New(), want: l.digest}, nil
}

// verified passes bytes through and fails at their end when they are not those that were promised.
type verified struct {
	*reader
	sum  hash.Hash
	want v1.Hash
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.reader.Read(p)
	v.sum.Write(p[:n])
	if err == io.EOF && digestOf(v.sum) != v.want {
		return n, errors.New("a file changed after its layer was made")
	}
	return n, err
}

// reader is an archive as a stream: at most one file is open, and nothing is held in memory but headers and data.
type reader struct {
	parts []part
	open  io.ReadCloser
}

// A part is a piece of the stream: bytes, or a file of this machine of which exactly size bytes are taken.
type part struct {
	bytes  []byte
	source string
	size   int64
}

// partsOf is the archive of these entries.
func partsOf(entries []entry) []part {
	var parts []part
	for _, e := range entries {
		parts = append(parts, part{bytes: e.header})
		if e.source != "" {
			parts = append(parts, part{source: e.source, size: e.size})
		} else {
			parts = append(parts, part{bytes: e.data})
		}
		if rest := e.size % block; rest != 0 {
			parts = append(parts, part{bytes: make([]byte, block-rest)})
		}
	}
	return append(parts, part{bytes: make([]byte, endOfTar)})
}

func (r *reader) Read(p []byte) (int, error) {
	for {
		if r.open == nil {
			if len(r.parts) == 0 {
				return 0, io.EOF
			}
			if err := r.next(); err != nil {
				return 0, err
			}
		}
		n, err := r.open.Read(p)
		if err == io.EOF {
			if err := r.Close(); err != nil {
				return n, err
			}
		} else if err != nil {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

// next opens the first of the remaining parts.
func (r *reader) next() error {
	first := r.parts[0]
	r.parts = r.parts[1:]
	if first.source == "" {
		r.open = io.NopCloser(bytes.NewReader(first.bytes))
		return nil
	}
	f, err := os.Open(first.source)
	if err != nil {
		return err
	}
	r.open = &exactly{f: f, left: first.size}
	return nil
}

func (r *reader) Close() error {
	if r.open == nil {
		return nil
	}
	open := r.open
	r.open = nil
	return open.Close()
}

// exactly reads left bytes of a file and fails when there are fewer: the archive's header has promised them.
type exactly struct {
	f    *os.File
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.f.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if err == io.EOF {
		err = fmt.Errorf("%s became shorter while it was read", e.f.Name())
	}
	return n, err
}

func (e *exactly) Close() error { return e.f.Close() }

func digestOf(sum hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
}
