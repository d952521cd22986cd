// Command runtime stands between a container engine and runc on a host whose processes lack capabilities that engines give to privileged
// containers (nested virtual machines often lack CAP_SYS_RESOURCE). runc fails there with "unable to apply caps: operation not permitted";
// so this command takes out of each container's specification what the host does not have, and becomes runc.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "kind-offline runtime:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	missing, err := missingCapabilities("/proc/self/status")
	if err != nil {
		return err
	}
	for _, file := range specifications(arguments) {
		if err := edit(file, missing); err != nil {
			return fmt.Errorf("adapting %s: %w", file, err)
		}
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		return err
	}
	return syscall.Exec(runc, append([]string{"runc"}, arguments...), os.Environ())
}

// specifications finds the JSON files by which runc's create and run (--bundle) and exec (--process) learn what to start.
func specifications(arguments []string) []string {
	var files []string
	for i, argument := range arguments {
		flag, value, joined := strings.Cut(argument, "=")
		if !joined && i+1 < len(arguments) {
			value = arguments[i+1]
		}
		switch flag {
		case "--bundle", "-b":
			files = append(files, filepath.Join(value, "config.json"))
		case "--process", "-p":
			files = append(files, value)
		}
	}
	return files
}

// edit rewrites a specification without the missing capabilities, in place, because runc may have been given an open or mounted file.
func edit(file string, missing map[string]bool) error {
	before, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	after, err := without(before, missing)
	if err != nil {
		return err
	}
	return os.WriteFile(file, after, 0o600)
}

// without drops capabilities from a container's or a process's specification; everything else stays as it is, numbers to the last digit.
func without(specification []byte, missing map[string]bool) ([]byte, error) {
	var document map[string]any
	decoder := json.NewDecoder(bytes.NewReader(specification))
	decoder.UseNumber()
	if err := decoder.Decode(&document); err != nil {
		return nil, err
	}
	process := document
	if inner, ok := document["process"].(map[string]any); ok {
		process = inner
	}
	sets, _ := process["capabilities"].(map[string]any)
	for name, set := range sets {
		list, _ := set.([]any)
		kept := make([]any, 0, len(list))
		for _, capability := range list {
			if text, _ := capability.(string); !missing[text] {
				kept = append(kept, capability)
			}
		}
		sets[name] = kept
	}
	return json.Marshal(document)
}
