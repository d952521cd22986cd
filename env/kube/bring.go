package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/kind/pkg/cluster/nodes"

	"meshtest.dev/meshtest/env/kube/cluster"
	"meshtest.dev/meshtest/env/kube/images"
)

// FixtureAlias is how plain manifests name the image of the sample applications, whatever is in it.
const FixtureAlias = images.Local + "/meshtest-fixture:1"

// built are the mesh's own images.
type built struct{ sidecar, control, fixture, load images.Image }

// all are those that the cluster needs.
func (b built) all() []images.Image {
	all := []images.Image{b.sidecar, b.control, b.fixture}
	if b.load.Ref != "" {
		all = append(all, b.load)
	}
	return all
}

func (e *Environment) buildImages() (b built, err error) {
	var errs []error
	for _, one := range []struct {
		to           *images.Image
		binary, name string
		aliases      []string
	}{
		{&b.sidecar, e.Binaries.Sidecar, "meshtest-sidecar", nil},
		{&b.control, e.Binaries.Control, "meshtest-control", nil},
		{&b.fixture, e.Binaries.Fixture, "meshtest-fixture", []string{FixtureAlias}},
		{&b.load, e.Binaries.Load, "meshtest-load", nil},
	} {
		if e.Outside && one.to == &b.load {
			continue
		}
		*one.to, err = images.Build(one.binary, one.name, one.aliases...)
		errs = append(errs, err)
	}
	return b, errors.Join(errs...)
}

// bringImages builds the images and brings them into the cluster.
func (m *Mesh) bringImages(ctx context.Context) error {
	b, err := m.env.buildImages()
	if err != nil {
		return err
	}
	defer m.watch.Waiting("the mesh's images to be in the cluster")()
	if m.env.Registry != "" {
		refs, err := images.Push(ctx, strings.TrimSuffix(m.env.Registry, "/"), b.all()...)
		if err != nil {
			return err
		}
		refs = append(refs, "") // of the load agent, where there is none
		m.system.images = imageNames{sidecar: refs[0], control: refs[1], fixture: refs[2], load: refs[3]}
		return nil
	}
	into, err := m.kindNodes(ctx)
	if err != nil {
		return err
	}
	if err := images.Load(ctx, into, b.all()...); err != nil {
		return err
	}
	m.system.images = imageNames{sidecar: b.sidecar.Ref, control: b.control.Ref, fixture: b.fixture.Ref, load: b.load.Ref}
	return nil
}

// kindNodes are the nodes to stream images into: those of our cluster, or of the kind cluster that a context leads to.
func (m *Mesh) kindNodes(ctx context.Context) ([]nodes.Node, error) {
	c := m.cluster
	if c == nil {
		name, err := m.kindName(ctx)
		if err != nil {
			return nil, err
		}
		if c, err = cluster.Find(ctx, name); err != nil {
			return nil, err
		}
	}
	all, err := c.Nodes()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(n nodes.Node) bool {
		role, err := n.Role()
		return err == nil && role == "external-load-balancer"
	}), nil
}

// kindName is the name of the kind cluster that the API server belongs to: kind writes it into its nodes.
func (m *Mesh) kindName(ctx context.Context) (string, error) {
	list, err := m.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return "", fmt.Errorf("looking at the cluster's nodes: %w", err)
	}
	for _, n := range list.Items {
		if rest, is := strings.CutPrefix(n.Spec.ProviderID, "kind://"); is {
			if parts := strings.Split(rest, "/"); len(parts) == 3 {
				return parts[1], nil
			}
		}
	}
	return "", errors.New("the mesh's images have to come from somewhere: name a registry that the cluster pulls from with --registry")
}
