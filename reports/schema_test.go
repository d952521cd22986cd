package reports

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/fixtures"
)

func reportSchema(t *testing.T) (*jsonschema.Schema, map[string]any) {
	t.Helper()
	data, err := fixtures.Schema("report")
	require.NoError(t, err)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	require.NoError(t, compiler.AddResource("report", doc))
	schema, err := compiler.Compile("report")
	require.NoError(t, err)
	return schema, doc.(map[string]any)
}

func TestReportJSONIsWhatItsSchemaSays(t *testing.T) {
	t.Parallel()
	schema, raw := reportSchema(t)
	stories := map[string]*Story{"empty": story(t), "hostile": hostile(t)}
	for _, name := range names() {
		stories[name] = open(t, name)
	}
	for name, s := range stories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			require.NoError(t, WriteJSON(&b, s))
			doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b.Bytes()))
			require.NoError(t, err)
			require.NoError(t, schema.Validate(doc))
			sameFields(t, "report", raw, doc)
			var back Report
			decoder := json.NewDecoder(&b)
			decoder.DisallowUnknownFields()
			require.NoError(t, decoder.Decode(&back))
			require.Equal(t, NewReport(s), back)
		})
	}
}

// sameFields requires that a document has exactly the fields that its schema describes.
func sameFields(t *testing.T, path string, schema map[string]any, doc any) {
	t.Helper()
	if list, ok := doc.([]any); ok {
		for _, item := range list {
			sameFields(t, path+"[]", schema["items"].(map[string]any), item)
		}
		return
	}
	object, ok := doc.(map[string]any)
	if !ok {
		return
	}
	described, _ := schema["properties"].(map[string]any)
	for name := range object {
		require.Contains(t, described, name, "%s is written and not described", path)
	}
	for name, field := range described {
		require.Contains(t, object, name, "%s is described and not written", path)
		require.NotEmpty(t, field.(map[string]any)["description"], "%s.%s", path, name)
		sameFields(t, path+"."+name, field.(map[string]any), object[name])
	}
}
