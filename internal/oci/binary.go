package oci

import (
	"debug/elf"
	"fmt"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// architectures are the GOARCH of the machines that we build for.
var architectures = map[elf.Machine]string{
	elf.EM_X86_64:  "amd64",
	elf.EM_AARCH64: "arm64",
	elf.EM_RISCV:   "riscv64",
	elf.EM_PPC64:   "ppc64le",
	elf.EM_S390:    "s390x",
}

// NewBinary makes the image of one statically linked program, which stands alone at /NAME and is its entrypoint, NAME being the last part of
// its path. The image's architecture is the program's. A Config that names an Entrypoint keeps it.
//
// A program that needs a dynamic loader is refused here, because in an empty image its container would fail with "no such file or directory".
func NewBinary(source string, config Config) (v1.Image, error) {
	architecture, err := Static(source)
	if err != nil {
		return nil, err
	}
	at := "/" + path.Base(source)
	layer, err := NewLayer(File{Path: at, Source: source})
	if err != nil {
		return nil, err
	}
	if config.Entrypoint == nil {
		config.Entrypoint = []string{at}
	}
	config.Architecture = architecture
	return NewImage(config, layer)
}

// Static reports the architecture, as GOARCH, of a program for Linux that runs without a dynamic loader; any other file is an error.
func Static(source string) (string, error) {
	program, err := elf.Open(source)
	if err != nil {
		return "", fmt.Errorf("reading the program %s: %w", source, err)
	}
	defer program.Close()
	for _, segment := range program.Progs {
		if segment.Type == elf.PT_INTERP {
			return "", fmt.Errorf("%s needs a dynamic loader, which an empty image does not have: build it with CGO_ENABLED=0", source)
		}
	}
	architecture, known := architectures[program.Machine]
	if !known {
		return "", fmt.Errorf("%s is for %v, which we make no images for", source, program.Machine)
	}
	return architecture, nil
}
