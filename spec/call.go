package spec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/reporter"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Message is a message of protocol buffers as an author writes it: what its JSON form can hold. What it means is known when its type is.
type Message struct{ node *yaml.Node }

// calls encodes the messages of calls, by the .proto files that the scenario names.
func (r fileReader) calls(streams []Stream) {
	for i := range streams {
		call := streams[i].GRPC
		if call == nil || call.Proto == "" {
			continue
		}
		where := join(index("load", i), "grpc")
		if _, _, ok := r.read(join(where, "proto"), call.Proto); !ok {
			continue
		}
		input, ok := r.input(where, call)
		if !ok {
			continue
		}
		encoded, err := call.Message.encode(input)
		if err != nil {
			r.problem(join(where, "message"), fmt.Sprintf("no message of type %s: %s", input.FullName(), err), "")
			continue
		}
		call.Encoded = encoded
	}
}

func (r fileReader) problem(where, message, hint string) {
	node := r.d.src.nodes[where]
	if node == nil { // a message that was left out
		node = r.d.src.nodes[where[:strings.LastIndexByte(where, '.')]]
	}
	r.d.problem(node, "MT1214", where, message, hint)
}

// input is the type of message that a method takes.
func (r fileReader) input(where string, call *Call) (protoreflect.MessageDescriptor, bool) {
	file, err := r.compile(path.Clean(call.Proto))
	if err != nil {
		r.problem(join(where, "proto"), "the file cannot be compiled: "+err.Error(), "")
		return nil, false
	}
	var methods []string
	services := file.Services()
	for i := range services.Len() {
		for j := range services.Get(i).Methods().Len() {
			m := services.Get(i).Methods().Get(j)
			name := fmt.Sprintf("/%s/%s", services.Get(i).FullName(), m.Name())
			if name == call.Method {
				return m.Input(), true
			}
			methods = append(methods, name)
		}
	}
	r.problem(join(where, "method"), fmt.Sprintf("%s declares no method %q", call.Proto, shorten(call.Method)), suggest(nearest(call.Method, methods), methods))
	return nil, false
}

// compile compiles a .proto file and what it imports: files of the scenario's folder, and those that come with protocol buffers.
func (r fileReader) compile(name string) (protoreflect.FileDescriptor, error) {
	compiler := protocompile.Compiler{
		MaxParallelism: 1,
		Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{Accessor: func(name string) (io.ReadCloser, error) {
			if !fs.ValidPath(name) {
				return nil, fmt.Errorf("%s is outside the scenario's folder", name)
			}
			data, err := readLimited(r.folder, name)
			if err != nil {
				return nil, err
			}
			return io.NopCloser(strings.NewReader(string(data))), nil
		}}),
	}
	files, err := compiler.Compile(context.Background(), name)
	var positioned reporter.ErrorWithPos
	switch {
	case errors.As(err, &positioned):
		at := positioned.GetPosition()
		return nil, fmt.Errorf("%s:%d:%d: %w", at.Filename, at.Line, at.Col, positioned.Unwrap())
	case err != nil:
		return nil, err
	}
	return files[0], nil
}

// encode is the message as it is sent.
func (m Message) encode(t protoreflect.MessageDescriptor) ([]byte, error) {
	message := dynamicpb.NewMessage(t)
	if m.node != nil {
		value, err := plain(m.node)
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		if err := protojson.Unmarshal(text, message); err != nil {
			return nil, errors.New(withoutPlace(err.Error()))
		}
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		return nil, errors.New(withoutPlace(err.Error()))
	}
	return encoded, nil
}

// place is where something stood in the text that the author did not write.
var place = regexp.MustCompile(`^(proto:\s)?(syntax error )?(\(line \d+:\d+\): )?`)

// withoutPlace makes an error of protojson, whose spelling is made to vary, one of the author's.
func withoutPlace(text string) string {
	return place.ReplaceAllString(strings.ReplaceAll(text, "\u00a0", " "), "")
}

// plain is a value as JSON has it. The loader has bounded its size with aliases expanded.
func plain(n *yaml.Node) (any, error) {
	switch n = resolve(n); {
	case n.Kind == yaml.MappingNode:
		object := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			value, err := plain(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			object[n.Content[i].Value] = value
		}
		return object, nil
	case n.Kind == yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, e := range n.Content {
			value, err := plain(e)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		return list, nil
	case n.Tag == "!!int", n.Tag == "!!float", n.Tag == "!!bool", n.Tag == "!!null":
		var value any
		if err := n.Decode(&value); err != nil {
			return nil, err
		}
		return value, nil
	default:
		return n.Value, nil
	}
}
