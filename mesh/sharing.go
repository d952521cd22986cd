package mesh

import (
	"hash/maphash"
	"math"
	"reflect"
)

// Sharing lets resources have in common what is equal in them: strings, maps, and what pointers lead to. Resources that were decoded one by one repeat the same host, labels and retries thousands of
// times; shared, a large configuration takes half the memory. What it was given is kept for as long as the Sharing is.
type Sharing struct {
	seed    maphash.Seed
	strings map[string]string
	values  map[sharedKey]reflect.Value // maps and pointers
}

type sharedKey struct {
	of   reflect.Type
	hash uint64
}

// NewSharing returns a Sharing that knows nothing yet.
func NewSharing() *Sharing {
	return &Sharing{seed: maphash.MakeSeed(), strings: map[string]string{}, values: map[sharedKey]reflect.Value{}}
}

// Know makes a string, which is in memory anyway, the one that is shared, unless there is one.
func (s *Sharing) Know(text string) { s.text(text) }

// Share changes what a resource, or anything else of this package, is made of; what it says stays the same. It is given by a pointer, and nobody else may use it yet.
func (s *Sharing) Share(resource any) { s.share(reflect.ValueOf(resource).Elem()) }

// Share lets the resources have in common what is equal in them, see [Sharing]. Nobody else may use them yet.
func (s *Snapshot) Share() {
	all := NewSharing()
	shareAll(all, s.Services)
	shareAll(all, s.Endpoints)
	shareAll(all, s.Routes)
	shareAll(all, s.Inbound)
}

func shareAll[R any](s *Sharing, resources map[string]*R) {
	for name, r := range resources {
		s.Know(name)
		s.Share(r)
	}
}

func (s *Sharing) text(text string) string {
	if had, ok := s.strings[text]; ok {
		return had
	}
	s.strings[text] = text
	return text
}

// share shares a variable.
func (s *Sharing) share(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(s.text(v.String()))
	case reflect.Struct:
		for i := range v.NumField() {
			s.share(v.Field(i))
		}
	case reflect.Slice:
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

// isScalar reports whether nothing can be shared of values of the kind.
func isScalar(k reflect.Kind) bool { return k >= reflect.Bool && k <= reflect.Complex128 }

// unify makes a variable the one that is equal to it, or the one that others are to become.
func (s *Sharing) unify(v reflect.Value) {
	key := sharedKey{v.Type(), s.hash(v)}
	had, ok := s.values[key]
	switch {
	case ok && reflect.DeepEqual(had.Interface(), v.Interface()):
		v.Set(had)
		return
	case v.Kind() == reflect.Pointer:
		s.share(v.Elem())
	default:
		v.Set(s.mapOf(v))
	}
	if !ok {
		s.values[key] = reflect.ValueOf(v.Interface()) // and not the variable
	}
}

// mapOf is a map of equal content whose keys and values are shared.
func (s *Sharing) mapOf(had reflect.Value) reflect.Value {
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
func (s *Sharing) hash(v reflect.Value) (h uint64) {
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
func (s *Sharing) also(h uint64, v reflect.Value) uint64 {
	const prime = 1099511628211 // of FNV, 64 bits
	return (h+1)*prime ^ s.hash(v)
}
