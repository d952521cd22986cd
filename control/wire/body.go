package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"meshtest.dev/meshtest/control/wire/pb"
	"meshtest.dev/meshtest/mesh"
)

// Encode returns the body of a value of package mesh.
func Encode(value any) ([]byte, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encoding %T: %w", value, err)
	}
	return body, nil
}

// Decode reads a body strictly into a value of package mesh: a field that the value does not have is an error that names it, and so is anything after the body. Of
// a field that a newer sidecar or control plane knows and we do not, we cannot promise to honour it.
func Decode(body []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("decoding %T: %w", into, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("decoding %T: something follows the body", into)
	}
	return nil
}

// Name is the resource name that follows from the content: of a *mesh.Service, *mesh.Endpoints, *mesh.RouteTable or *mesh.Inbound. It is "" when there is no content.
func Name(resource any) string {
	switch r := resource.(type) {
	case *mesh.Service:
		if r != nil {
			return r.Host
		}
	case *mesh.Endpoints:
		if r != nil {
			return mesh.HostPort(r.Host, r.Port)
		}
	case *mesh.RouteTable:
		if r != nil {
			return mesh.HostPort(r.Host, r.Port)
		}
	case *mesh.Inbound:
		if r != nil {
			return r.Workload.Instance
		}
	}
	return ""
}

// Misnamed returns the resources whose name is not the one that their content asks for, in words.
func Misnamed(s *mesh.Snapshot) []string {
	return slices.Sorted(slices.Values(slices.Concat(
		misnamed(mesh.KindService, s.Services), misnamed(mesh.KindEndpoints, s.Endpoints), misnamed(mesh.KindRouteTable, s.Routes), misnamed(mesh.KindInbound, s.Inbound),
	)))
}

func misnamed[T any](kind mesh.Kind, resources map[string]*T) (mistakes []string) {
	for name, resource := range resources {
		if is := Name(resource); is != name || is == "" {
			mistakes = append(mistakes, fmt.Sprintf("%s %q: the content is of %q", kind, name, is))
		}
	}
	return mistakes
}

// NewResource encodes one resource. Its version is a digest of the body, so that equal contents have equal versions in every life of
// every control plane, and a reconnect resends only what differs.
func NewResource(name string, value any) (*pb.Resource, error) {
	body, err := Encode(value)
	if err != nil {
		return nil, fmt.Errorf("resource %s: %w", name, err)
	}
	digest := sha256.Sum256(body)
	return &pb.Resource{Name: name, Version: hex.EncodeToString(digest[:8]), Body: body}, nil
}

// DecodeUpdate reads an update strictly. The error names the resource and the field that are not understood. What is equal in its resources is in memory once.
func DecodeUpdate(u *pb.Update) (mesh.Update, error) {
	kind := mesh.Kind(u.GetKind())
	set := mesh.NewSnapshot()
	for _, r := range u.GetResources() {
		if err := decodeResource(kind, r, set); err != nil {
			return mesh.Update{}, fmt.Errorf("%s %s: %w", kind, r.GetName(), err)
		}
	}
	if err := knownKind(kind); err != nil {
		return mesh.Update{}, err
	}
	return mesh.Update{Generation: fromGeneration(u.GetGeneration()), Kind: kind, Set: set.Shared(), Removed: u.GetRemoved()}, nil
}

func decodeResource(kind mesh.Kind, r *pb.Resource, into *mesh.Snapshot) error {
	switch kind {
	case mesh.KindService:
		return decodeInto(r, into.Services)
	case mesh.KindEndpoints:
		return decodeInto(r, into.Endpoints)
	case mesh.KindRouteTable:
		return decodeInto(r, into.Routes)
	case mesh.KindInbound:
		return decodeInto(r, into.Inbound)
	default:
		return knownKind(kind)
	}
}

func decodeInto[T any](r *pb.Resource, into map[string]*T) error {
	value := new(T)
	if err := Decode(r.GetBody(), value); err != nil {
		return err
	}
	if got := Name(value); got != r.GetName() {
		return fmt.Errorf("the body is of %q", got)
	}
	into[r.GetName()] = value
	return nil
}

func knownKind(kind mesh.Kind) error {
	for _, k := range mesh.Kinds() {
		if k == kind {
			return nil
		}
	}
	return fmt.Errorf("unknown kind of resource %q", kind)
}

// Generation puts a generation into its envelope.
func Generation(g mesh.Generation) *pb.Generation {
	return &pb.Generation{Epoch: g.Epoch, Counter: g.Counter}
}

func fromGeneration(g *pb.Generation) mesh.Generation {
	return mesh.Generation{Epoch: g.GetEpoch(), Counter: g.GetCounter()}
}
