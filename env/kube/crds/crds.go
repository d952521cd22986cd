// Package crds holds the definitions of those of Istio's kinds that the mesh understands, for clusters that have none: DestinationRule, Gateway, ServiceEntry and VirtualService of
// networking.istio.io, in all versions that Istio serves.
package crds

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

//go:generate go run ./gen

// istio is taken from istio.io/api; see Extract.
//
//go:embed istio.yaml
var istio string

// Names are those of the definitions.
func Names() []string {
	return []string{"destinationrules.networking.istio.io", "gateways.networking.istio.io", "serviceentries.networking.istio.io", "virtualservices.networking.istio.io"}
}

// Objects returns the definitions; the caller owns them.
func Objects() ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	for _, text := range documents(istio) {
		u, err := object(text)
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

// Extract returns the definitions of [Names] from all of Istio's, byte for byte, under a notice of where they come from. It fails when one is missing.
func Extract(upstream, version string) (string, error) {
	missing := Names()
	var out strings.Builder
	fmt.Fprintf(&out, notice, version)
	for _, text := range documents(upstream) {
		u, err := object(text)
		if err != nil {
			return "", err
		}
		i := slices.Index(missing, u.GetName())
		if i < 0 {
			continue
		}
		missing = slices.Delete(missing, i, i+1)
		out.WriteString("---\n" + strings.TrimSpace(text) + "\n")
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("istio.io/api %s does not define %s", version, strings.Join(missing, ", "))
	}
	return out.String(), nil
}

const notice = `# Extracted from kubernetes/customresourcedefinitions.gen.yaml of istio.io/api %s by "go generate ./env/kube/crds". DO NOT EDIT.
#
# Copyright Istio Authors
#
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with the License. You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either
# express or implied. See the License for the specific language governing permissions and limitations under the License.
`

// documents are those of a file that hold more than comments.
func documents(text string) (all []string) {
	for part := range strings.SplitSeq("\n"+text, "\n---\n") {
		if strings.Contains(part, "\nkind:") {
			all = append(all, part)
		}
	}
	return all
}

func object(text string) (*unstructured.Unstructured, error) {
	var u unstructured.Unstructured
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		return nil, fmt.Errorf("reading a definition: %w", err)
	}
	return &u, nil
}
