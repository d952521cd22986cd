package cluster

import (
	"fmt"
	"os"

	"go.yaml.in/yaml/v3"
)

func orElse(value, variable string) string {
	if value != "" {
		return value
	}
	return os.Getenv(variable)
}

// configuration is kind's, of the file and the number of nodes.
func configuration(o Options) ([]byte, error) {
	config := map[string]any{"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4"}
	if path := orElse(o.ConfigFile, EnvConfig); path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading kind's configuration: %w", err)
		}
		if err := yaml.Unmarshal(text, &config); err != nil {
			return nil, fmt.Errorf("reading kind's configuration: %s: %w", path, err)
		}
	}
	if o.Nodes < 0 {
		return nil, fmt.Errorf("a cluster of %d nodes", o.Nodes)
	}
	if o.Nodes > 0 {
		list := []any{map[string]any{"role": "control-plane"}}
		for range o.Nodes - 1 {
			list = append(list, map[string]any{"role": "worker"})
		}
		config["nodes"] = list
	}
	text, err := yaml.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("writing kind's configuration: %w", err)
	}
	return text, nil
}
