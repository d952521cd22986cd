# meshtest: see README.md for what it is, CONTRIBUTING.md for how we work on it.

SHELL := /bin/bash
GO ?= go
BIN := bin
TOOL := $(GO) tool -modfile=tools/go.mod

.DEFAULT_GOAL := help
.PHONY: help build run test lint fmt generate bench profile fuzz e2e clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

build: ## build the five binaries into bin/
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(BIN)/ ./cmd/...

run: build ## build, and carry out a judged canary roll-out on this machine
	$(BIN)/meshtest run canary-promote

RACE := $(if $(shell $(GO) env CGO_ENABLED | grep 1 && command -v $$($(GO) env CC)),-race)

# Whole runs judge latency, so they get the machine for themselves.
test: ## run every test, with the race detector where there is a C compiler
	$(GO) test $(RACE) $$($(GO) list ./... | grep -v /scenarios$$)
	$(GO) test -timeout 20m ./scenarios

lint: ## gofmt, go vet, staticcheck and the repository's own laws
	@test -z "$$(gofmt -l . | tee /dev/stderr)"
	$(GO) vet ./...
	$(GO) vet -tags saboteur ./cmd/meshtest-sidecar
	GOOS=darwin $(GO) vet $$($(GO) list ./... | grep -v /hack/)
	$(GO) vet -tags e2e ./env/kube/... ./cmd/meshtest-control ./scenarios ./hack/...
	$(TOOL) staticcheck ./...
	$(GO) test ./internal/law

fmt: ## format the code
	gofmt -w .

generate: ## make the JSON Schema and the wire protocol's code anew
	$(GO) generate ./...

bench: build ## measure on this machine what the README and the design notes claim
	$(GO) run ./bench/proxy
	$(GO) run ./bench/startup
	$(GO) run ./bench/harddown
	$(GO) run ./bench/verdicts
	$(GO) run ./bench/killed
	$(GO) test -run '^$$' -bench . -benchmem ./proxy/... ./mesh ./internal/hist ./injector/...

profile: ## profile the data path anew; the compiler optimises the sidecar by it
	@mkdir -p $(BIN)
	$(GO) test -trimpath -run '^$$' -bench 'Request$$' -benchtime 20s -cpuprofile $(BIN)/path.prof -o $(BIN)/proxy.test ./proxy
	$(GO) test -trimpath -run '^$$' -bench 'Exchange$$' -benchtime 3s -cpuprofile $(BIN)/codec.prof -o $(BIN)/http1.test ./proxy/http1
	$(GO) tool pprof -proto -output cmd/meshtest-sidecar/default.pgo $(BIN)/path.prof $(BIN)/codec.prof

fuzz: ## run every fuzz target for FUZZTIME (60s)
	hack/fuzz

e2e: ## run what needs real clusters: every scenario that names kind, and the contract of clusters
	hack/e2e

clean: ## remove what was built and what runs have left
	rm -rf $(BIN) meshtest-out
