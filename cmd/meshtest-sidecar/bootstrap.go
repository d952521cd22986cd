package main

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"time"

	"meshtest.dev/meshtest/mesh"
)

// bootstrap is the document on the bootstrap descriptor: whom the sidecar stands beside, and how to talk to the others. The configuration itself comes from the control plane.
type bootstrap struct {
	Run         string        `json:"run"`         // id of the run, for the log
	Workload    mesh.Workload `json:"workload"`    // whom the sidecar stands beside
	Control     string        `json:"control"`     // socket of the control plane
	Token       string        `json:"token"`       // shown to the control plane
	Direct      string        `json:"direct"`      // socket to listen on for the run: leases and evidence
	DirectToken string        `json:"directToken"` // whom the run shows it
	Admin       string        `json:"admin"`       // socket to listen on for questions; empty: none
	EdgeToken   string        `json:"edgeToken"`   // at an edge: who shows it is the run's own load; empty: nobody is
	LogLevel    slog.Level    `json:"logLevel"`    // DEBUG, INFO, WARN or ERROR
	Drain       time.Duration `json:"drain"`       // nanoseconds that requests get to finish at the end; 0: 5 s
}

func readBootstrap(fd int) (b bootstrap, err error) {
	file := os.NewFile(uintptr(fd), "bootstrap descriptor "+strconv.Itoa(fd))
	if file == nil {
		return b, errors.New("there is no such descriptor")
	}
	defer file.Close()
	dec := json.NewDecoder(file)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&b); err != nil {
		return b, err
	}
	for name, value := range map[string]string{
		"workload.instance": b.Workload.Instance, "control": b.Control, "token": b.Token, "direct": b.Direct, "directToken": b.DirectToken,
	} {
		if value == "" {
			return b, errors.New(name + " must not be empty")
		}
	}
	return b, nil
}
