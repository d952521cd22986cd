package main

import (
	"context"
	_ "embed"
	"fmt"
	"path/filepath"
	"strings"

	"meshtest.dev/meshtest/internal/oci"
)

// suite is the release of Debian that nodes are made of: the last one whose systemd starts on a host with version 1 of control groups.
const suite = "bookworm"

// nodePackages are what a node needs beside Kubernetes: what starts it, what starts containers, and the tools that kind, the kubelet and kubeadm call.
var nodePackages = []string{
	"systemd", "systemd-sysv", "dbus", "libseccomp2",
	"containerd", "runc", "containernetworking-plugins", "pigz",
	"iproute2", "iptables", "nftables", "conntrack", "ethtool", "socat", "kmod",
	"mount", "util-linux", "e2fsprogs", "procps", "hostname", "curl", "jq", "ca-certificates",
}

// debian returns the folder of a Debian tree with these packages.
func debian(ctx context.Context, s *store, packages []string) (tree string, err error) {
	folder, err := s.part(ctx, "debian", func(ctx context.Context, folder string) error {
		if err := install(ctx, s, "debootstrap", "debootstrap"); err != nil {
			return err
		}
		tree := filepath.Join(folder, "tree")
		arguments := []string{"--variant=minbase", "--include=" + strings.Join(packages, ","), suite, tree}
		if _, err := (command{name: "debootstrap", arguments: arguments, log: s.log("debian"), isolated: true}).run(ctx); err != nil {
			return err
		}
		clean := "rm -rf /var/cache/apt/* /var/lib/apt/lists/* /var/log/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/*"
		_, err := command{name: "/bin/sh", arguments: []string{"-c", clean}, root: tree, folder: "/", env: treeEnv}.run(ctx)
		return err
	}, suite, packages)
	return filepath.Join(folder, "tree"), err
}

// treeEnv is the environment of a program that runs inside a tree.
var treeEnv = []string{"PATH=" + searchPath, "HOME=/root", "LC_ALL=C", "TMPDIR=/tmp"}

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

//go:embed proxy-files.sh
var proxyFilesScript string

// packetFilters are the files that kube-proxy needs beside itself: iptables in the form that programs nftables, nft, and their libraries.
func packetFilters(ctx context.Context, tree string) ([]oci.File, error) {
	out, err := command{
		name: "/bin/sh", arguments: []string{"-s"}, stdin: strings.NewReader(proxyFilesScript), root: tree, folder: "/", env: treeEnv,
	}.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("finding the files of iptables: %w", err)
	}
	var files []oci.File
	for line := range strings.Lines(out) {
		at, source, found := strings.Cut(strings.TrimSpace(line), " ")
		if !found {
			return nil, fmt.Errorf("finding the files of iptables: unexpected line %q", line)
		}
		files = append(files, oci.File{Path: at, Source: filepath.Join(tree, source)})
	}
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, form := range []string{"", "-save", "-restore"} {
			files = append(files, oci.File{Path: "/usr/sbin/" + family + form, Link: "xtables-nft-multi"})
		}
	}
	return files, nil
}
