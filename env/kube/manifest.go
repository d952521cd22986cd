package kube

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"meshtest.dev/meshtest/env/kube/apply"
	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/mesh"
)

// manifest is a file of the author's, read once for all versions that name it.
type manifest struct {
	file    string
	objects []*unstructured.Unstructured
}

func (m *Mesh) manifest(read map[string]*manifest, a *application) (*manifest, error) {
	if f := read[a.Program.Manifest]; f != nil {
		return f, nil
	}
	objects, err := apply.Decode(a.Program.Manifest, a.Program.Objects)
	if err != nil {
		return nil, err
	}
	for _, u := range objects {
		m.adopt(u)
	}
	f := &manifest{file: a.Program.Manifest, objects: objects}
	read[a.Program.Manifest] = f
	return f, nil
}

// adopt puts an author's object into the applications' namespace, and says whose it is; its pods stay as they are.
func (m *Mesh) adopt(u *unstructured.Unstructured) {
	if m.applier.Namespaced(u.GroupVersionKind()) {
		u.SetNamespace(m.namespace)
	}
	labels := u.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[names.LabelRun] = m.deployment.Run
	u.SetLabels(labels)
}

// claim finds the Deployment that is the workload, and puts another image into it if there is one.
func (f *manifest) claim(a *application) error {
	i := slices.IndexFunc(f.objects, func(u *unstructured.Unstructured) bool { return u.GetKind() == "Deployment" && isOf(u, a) })
	if i < 0 {
		return fmt.Errorf("%s: no Deployment has pods with the labels %s=%s and %s=%s", f.file, mesh.LabelApp, a.service(), mesh.LabelVersion, a.Version)
	}
	u := f.objects[i]
	a.deployed = u.GetName()
	a.replicas = 1
	if n, found, err := unstructured.NestedInt64(u.Object, "spec", "replicas"); err == nil && found {
		a.replicas = int32(n)
	}
	if a.Program.Image == "" {
		return nil
	}
	return f.replaceImage(u, a)
}

// isOf reports whether the object's pods are the workload's.
func isOf(u *unstructured.Unstructured, a *application) bool {
	labels, _, _ := unstructured.NestedStringMap(u.Object, "spec", "template", "metadata", "labels")
	return labels[mesh.LabelApp] == a.service() && (labels[mesh.LabelVersion] == a.Version || labels[mesh.LabelVersion] == "")
}

func (f *manifest) replaceImage(u *unstructured.Unstructured, a *application) error {
	containers, _, err := unstructured.NestedSlice(u.Object, "spec", "template", "spec", "containers")
	if err != nil {
		return fmt.Errorf("%s: Deployment %s: %w", f.file, u.GetName(), err)
	}
	if a.Program.Container == "" && len(containers) != 1 {
		return fmt.Errorf("%s: Deployment %s has %d containers: say which one's image is replaced", f.file, u.GetName(), len(containers))
	}
	for _, c := range containers {
		if c, ok := c.(map[string]any); ok && (a.Program.Container == "" || c["name"] == a.Program.Container) {
			c["image"] = a.Program.Image
			return unstructured.SetNestedSlice(u.Object, containers, "spec", "template", "spec", "containers")
		}
	}
	return fmt.Errorf("%s: Deployment %s has no container %q", f.file, u.GetName(), a.Program.Container)
}
