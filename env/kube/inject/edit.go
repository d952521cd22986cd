package inject

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// edit adds something to one list or map of a pod, which is made when it is not there. It is what the decision and the ways of carrying it out have in common.
type edit struct {
	path    []string       // names of fields, from the pod
	items   []any          // for a list; values of Kubernetes' types
	back    bool           // items come last, else first
	entries map[string]any // for a map; they replace those of the same name
}

type edits []edit

func annotate(annotations map[string]string) edit {
	entries := map[string]any{}
	for key, value := range annotations {
		entries[key] = value
	}
	return edit{path: []string{"metadata", "annotations"}, entries: entries}
}

func prepend[T any](list string, items ...T) edit {
	e := edit{path: []string{"spec", list}}
	for _, item := range items {
		e.items = append(e.items, item)
	}
	return e
}

func appendTo[T any](list string, items ...T) edit {
	e := prepend(list, items...)
	e.back = true
	return e
}

// whole is what the list or map holds when it was not there.
func (e edit) whole() any {
	if e.entries != nil {
		return e.entries
	}
	return e.items
}

// apply carries the edits out on an object. What they do not touch is shared with the object, which stays as it is.
func (es edits) apply(object map[string]any) map[string]any {
	for _, e := range es {
		object = e.apply(object, e.path)
	}
	return object
}

func (e edit) apply(object map[string]any, path []string) map[string]any {
	object = maps.Clone(object)
	if object == nil {
		object = map[string]any{}
	}
	name := path[0]
	if len(path) > 1 {
		child, _ := object[name].(map[string]any)
		object[name] = e.apply(child, path[1:])
		return object
	}
	switch there := object[name].(type) {
	case map[string]any:
		there = maps.Clone(there)
		maps.Copy(there, e.entries)
		object[name] = there
	case []any:
		if e.back {
			object[name] = slices.Concat(there, e.items)
		} else {
			object[name] = slices.Concat(e.items, there)
		}
	default:
		object[name] = e.whole()
	}
	return object
}

// operation is one of a JSON patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// patch returns the edits of an object as a JSON patch.
func (es edits) patch(object map[string]any) (all []operation) {
	for _, e := range es {
		ops := e.patch(object)
		object = e.apply(object, e.path)
		all = append(all, ops...)
	}
	return all
}

func (e edit) patch(object map[string]any) (all []operation) {
	pointer := ""
	for i, name := range e.path {
		pointer += "/" + escape(name)
		switch there := object[name].(type) {
		case map[string]any:
			object = there
			if i < len(e.path)-1 {
				continue
			}
			for _, key := range slices.Sorted(maps.Keys(e.entries)) {
				all = append(all, operation{"add", pointer + "/" + escape(key), e.entries[key]})
			}
			return all
		case []any:
			for j, item := range e.items {
				at := strconv.Itoa(j)
				if e.back {
					at = "-"
				}
				all = append(all, operation{"add", pointer + "/" + at, item})
			}
			return all
		}
		return []operation{{"add", pointer, nest(e.path[i+1:], e.whole())}} // "add" replaces what is there: null
	}
	return all
}

// nest wraps a value into objects, so that a path leads to it.
func nest(path []string, value any) any {
	for _, name := range slices.Backward(path) {
		value = map[string]any{name: value}
	}
	return value
}

// escape writes a name as a part of a JSON pointer (RFC 6901).
func escape(name string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(name) }
