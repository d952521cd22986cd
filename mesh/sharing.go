package mesh

import (
	"hash/maphash"
	"math"
	"net"
	"reflect"
	"strings"
)

// Shared returns an equal snapshot that has nothing in common with s but the resources' names, and whose resources have in common what is equal in them: strings, maps, and what pointers lead to.
// Resources that were decoded one by one repeat the same hosts, labels and retries thousands of times, among what decoding left behind; shared, a large configuration takes half the memory.
func (s *Snapshot) Shared() *Snapshot {
	all := &sharing{seed: maphash.MakeSeed(), strings: map[string]string{}, values: map[sharedKey]reflect.Value{}}
	return &Snapshot{
		Services: shared(all, s.Services), Endpoints: shared(all, s.Endpoints), Routes: shared(all, s.Routes), Inbound: shared(all, s.Inbound),
	}
}

func shared[R any](s *sharing, resources map[string]*R) map[string]*R {
	made := make(map[string]*R, len(resources))
	for name, r := range resources {
		s.know(name)
		one := new(R)
		*one = *r
		s.share(reflect.ValueOf(one).Elem())
		made[name] = one
	}
	return made
}

// sharing is what has been found so far.
type sharing struct {
	seed    maphash.Seed
	strings map[string]string
	values  map[sharedKey]reflect.Value // maps and pointers
}

type sharedKey struct {
	of   reflect.Type
	hash uint64
}

// know makes the name of a resource, and the host in it, strings that are shared: they are in memory anyway.
func (s *sharing) know(name string) {
	host, _, _ := net.SplitHostPort(name) // of a service or a workload there is none, and then nothing is known
	for _, text := range []string{name, host} {
		if _, known := s.strings[text]; !known {
			s.strings[text] = text
		}
	}
}

func (s *sharing) text(text string) string {
	had, known := s.strings[text]
	if !known {
		had = strings.Clone(text)
		s.strings[had] = had
	}
	return had
}

// share lets a variable, which is a copy, lead to nothing but what is shared, and copies of its own.
func (s *sharing) share(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(s.text(v.String()))
	case reflect.Struct:
		for i := range v.NumField() {
			s.share(v.Field(i))
		}
	case reflect.Slice:
		if v.IsNil() {
			return
		}
		made := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(made, v)
		v.Set(made)
		if isScalar(v.Type().Elem().Kind()) {
			return
		}
		for i := range v.Len() {
			s.share(v.Index(i))
		}
	case reflect.Pointer, reflect.Map:
		if !v.IsNil() {
			s.unify(v)
		}
	}
}

// isScalar reports whether there is nothing to share in values of the kind.
func isScalar(k reflect.Kind) bool { return k >= reflect.Bool && k <= reflect.Complex128 }

// unify makes a variable the one that is equal to it, or the one that others are to become.
func (s *sharing) unify(v reflect.Value) {
	key := sharedKey{v.Type(), s.hash(v)}
	had, ok := s.values[key]
	if ok && reflect.DeepEqual(had.Interface(), v.Interface()) {
		v.Set(had)
		return
	}
	made := s.mapOf
	if v.Kind() == reflect.Pointer {
		made = s.pointerTo
	}
	one := made(v)
	v.Set(one)
	if !ok {
		s.values[key] = one
	}
}

// pointerTo leads to an equal value of which all is shared.
func (s *sharing) pointerTo(had reflect.Value) reflect.Value {
	made := reflect.New(had.Type().Elem())
	made.Elem().Set(had.Elem())
	s.share(made.Elem())
	return made
}

// mapOf is an equal map whose keys and values are shared.
func (s *sharing) mapOf(had reflect.Value) reflect.Value {
	made := reflect.MakeMapWithSize(had.Type(), had.Len())
	key, value := reflect.New(had.Type().Key()).Elem(), reflect.New(had.Type().Elem()).Elem()
	for all := had.MapRange(); all.Next(); {
		key.SetIterKey(all)
		value.SetIterValue(all)
		s.share(key)
		s.share(value)
		made.SetMapIndex(key, value)
	}
	return made
}

// hash is the same for what is deeply equal.
func (s *sharing) hash(v reflect.Value) (h uint64) {
	switch v.Kind() {
	case reflect.String:
		return maphash.String(s.seed, v.String())
	case reflect.Bool:
		return maphash.Comparable(s.seed, v.Bool())
	case reflect.Float32, reflect.Float64:
		return maphash.Comparable(s.seed, math.Float64bits(v.Float()+0)) // of both zeros
	case reflect.Pointer:
		if v.IsNil() {
			return 0
		}
		return s.also(1, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			h = s.also(h, v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			h = s.also(h, v.Index(i))
		}
	case reflect.Map:
		for all := v.MapRange(); all.Next(); {
			h += s.also(s.hash(all.Key()), all.Value()) // in any order
		}
	default:
		if v.CanInt() {
			return maphash.Comparable(s.seed, v.Int())
		}
		if v.CanUint() {
			return maphash.Comparable(s.seed, v.Uint())
		}
	}
	return h
}

// also is a hash continued by that of another value.
func (s *sharing) also(h uint64, v reflect.Value) uint64 {
	const prime = 1099511628211 // of FNV, 64 bits
	return (h+1)*prime ^ s.hash(v)
}
