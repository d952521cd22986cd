package mesh

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// A condition that is added to Match has to be counted.
func TestEveryConditionOfAMatchIsCounted(t *testing.T) {
	t.Parallel()
	require.True(t, Match{}.TakesAll())
	require.True(t, Match{IgnorePathCase: true, Headers: map[string]HeaderTest{}}.TakesAll())
	root, other := "/", "/a"
	for _, m := range []*StringMatch{{Prefix: &root}, {PathPrefix: &root}} {
		require.True(t, Match{Path: m}.TakesAll())
		require.False(t, Match{Path: m, Port: 80}.TakesAll())
	}
	for _, m := range []*StringMatch{{Prefix: &other}, {PathPrefix: &other}, {Exact: &root}, {Regex: &root}} {
		require.False(t, Match{Path: m}.TakesAll())
	}
	kind := reflect.TypeFor[Match]()
	for i := range kind.NumField() {
		if kind.Field(i).Name == "IgnorePathCase" {
			continue
		}
		var m Match
		field := reflect.ValueOf(&m).Elem().Field(i)
		switch field.Kind() {
		case reflect.Pointer:
			field.Set(reflect.New(field.Type().Elem()))
		case reflect.Slice:
			field.Set(reflect.MakeSlice(field.Type(), 1, 1))
		case reflect.Map:
			field.Set(reflect.MakeMap(field.Type()))
			field.SetMapIndex(reflect.ValueOf("a"), reflect.Zero(field.Type().Elem()))
		case reflect.String:
			field.SetString("a")
		case reflect.Int:
			field.SetInt(1)
		default:
			t.Fatalf("%s has a kind that this test does not know", kind.Field(i).Name)
		}
		require.False(t, m.TakesAll(), kind.Field(i).Name)
	}
}

func TestStringMatchHolds(t *testing.T) {
	t.Parallel()
	for value, want := range map[string][5]bool{ // exact /a, prefix /a, path prefix /a/, expression /[ab], an expression that is wrong
		"/a": {true, true, true, true, false}, "/ab": {false, true, false, false, false}, "/a/b": {false, true, true, false, false}, "/b": {false, false, false, true, false},
	} {
		for i, m := range []StringMatch{{Exact: new("/a")}, {Prefix: new("/a")}, {PathPrefix: new("/a/")}, {Regex: new("/[ab]")}, {Regex: new("/[")}} {
			require.Equal(t, want[i], m.Holds(value), "test %d of %s", i, value)
		}
		require.True(t, (*StringMatch)(nil).Holds(value))
	}
}
