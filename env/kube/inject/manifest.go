package inject

import (
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Note is what became of one workload of a file.
type Note struct {
	Line   int    // of the workload's pod, from 1; 0: unknown
	Object string // such as "Deployment shop/web"
	Result
}

// File injects every workload of a file of Kubernetes objects; see [Manifest].
func File(r io.Reader, w io.Writer, c Config) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("reading objects: %w", err)
	}
	out, _, err := Manifest("", text, c)
	if err != nil {
		return err
	}
	_, err = w.Write(out)
	return err
}

// Manifest injects every workload of a file of Kubernetes objects: pods and whatever has a template for them, in lists as well. The text is YAML or JSON, with any number of documents. What is added is inserted into
// the text, and everything else stays byte for byte, comments too. Only a document whose pods share parts by anchors is written anew, without comments.
//
// The error is [Problems], with everything that is wrong, under the file's name; nothing is returned then.
func Manifest(name string, text []byte, c Config) ([]byte, []Note, error) {
	if err := c.Validate(); err != nil {
		return nil, nil, fmt.Errorf("injecting: %w", err)
	}
	var out strings.Builder
	var notes []Note
	var problems Problems
	for _, d := range split(string(text)) {
		found := d.parse()
		var changes []change
		for _, w := range d.workloads() {
			p, err := w.decide(c)
			if err != nil {
				found = append(found, d.locate(w, err)...)
				continue
			}
			notes = append(notes, Note{Line: d.line(w.pod), Object: w.object, Result: p.Result})
			changes = append(changes, change{w.pod, p.edits})
		}
		for _, p := range found {
			p.File = name
			problems = append(problems, p)
		}
		if len(found) > 0 {
			continue
		}
		injected, err := d.with(changes)
		if err != nil {
			return nil, nil, fmt.Errorf("writing %s: %w", name, err)
		}
		out.WriteString(injected)
	}
	if err := problems.err(); err != nil {
		return nil, nil, err
	}
	return []byte(out.String()), notes, nil
}

// templates are the kinds of workloads, and where each has its pod.
var templates = map[schema.GroupKind]Path{
	{Kind: "Pod"}:                             {},
	{Kind: "PodTemplate"}:                     {"template"},
	{Kind: "ReplicationController"}:           {"spec", "template"},
	{Group: "apps", Kind: "Deployment"}:       {"spec", "template"},
	{Group: "apps", Kind: "StatefulSet"}:      {"spec", "template"},
	{Group: "apps", Kind: "DaemonSet"}:        {"spec", "template"},
	{Group: "apps", Kind: "ReplicaSet"}:       {"spec", "template"},
	{Group: "extensions", Kind: "Deployment"}: {"spec", "template"},
	{Group: "extensions", Kind: "DaemonSet"}:  {"spec", "template"},
	{Group: "extensions", Kind: "ReplicaSet"}: {"spec", "template"},
	{Group: "batch", Kind: "Job"}:             {"spec", "template"},
	{Group: "batch", Kind: "CronJob"}:         {"spec", "jobTemplate", "spec", "template"},
}

// workload is an object of a file that makes pods.
type workload struct {
	object    string // such as "Deployment shop/web"
	namespace string
	pod       Path // from the document to the pod or its template
	value     map[string]any
}

func (w workload) decide(c Config) (decision, error) {
	p, err := readPod(w.value)
	if err != nil {
		return decision{}, err
	}
	return decide(p, w.namespace, c)
}

// workloads finds what makes pods in an object, which may be a list.
func workloads(object map[string]any, at Path, apiVersion, kind string) (all []workload) {
	if items, ok := object["items"].([]any); ok && strings.HasSuffix(kind, "List") {
		for i, item := range items {
			o, _ := item.(map[string]any)
			v, k := typeOf(o)
			if k == "" { // items of a DeploymentList need not say that they are Deployments
				v, k = apiVersion, strings.TrimSuffix(kind, "List")
			}
			all = append(all, workloads(o, at.join("items", i), v, k)...)
		}
		return all
	}
	group, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return nil
	}
	template, ok := templates[schema.GroupKind{Group: group.Group, Kind: kind}]
	if !ok {
		return nil
	}
	w := workload{object: kind, pod: at.join(template...), value: object}
	for _, step := range template {
		w.value, _ = w.value[step.(string)].(map[string]any)
	}
	meta, _ := object["metadata"].(map[string]any)
	w.namespace, _ = meta["namespace"].(string)
	name, _ := meta["name"].(string)
	if name == "" {
		name, _ = meta["generateName"].(string)
	}
	if w.namespace != "" {
		name = w.namespace + "/" + name
	}
	if name != "" {
		w.object += " " + name
	}
	return []workload{w}
}

func typeOf(object map[string]any) (apiVersion, kind string) {
	apiVersion, _ = object["apiVersion"].(string)
	kind, _ = object["kind"].(string)
	return apiVersion, kind
}
