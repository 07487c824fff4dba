# What people run here. Everything that is installed goes to bin/ or, where it is
# redis-server (valkey-server does as well), comes from the system's packages.

GO   ?= go
BIN  := $(CURDIR)/bin
# The race detector needs a C compiler; without one the tests still run.
RACE := $(if $(shell command -v gcc clang 2>/dev/null),-race,)

.PHONY: all build image test world swarm-test chaos redis buf tools generate lint breaking bench mutants clean

all: generate lint test

VERSION := $(shell git describe --tags --always 2>/dev/null || echo dev)

build:
	$(GO) build -ldflags "-X holdline/cmd.version=$(VERSION)" -o $(BIN)/holdline .

# The image of every part, with or without BuildKit. GOARCH=arm64 builds it for other machines.
IMAGE ?= holdline
TAG   ?= latest
CERTS ?= $(wildcard /etc/ssl/certs/ca-certificates.crt)

image:
	@rm -rf $(BIN)/image && mkdir -p $(BIN)/image/etc/ssl/certs
	$(if $(CERTS),@cp $(CERTS) $(BIN)/image/etc/ssl/certs/ca-certificates.crt,@echo 'no certificates of public authorities here: the image cannot check those of https:// routes (CERTS=FILE adds them)')
	CGO_ENABLED=0 GOOS=linux $(GO) build -trimpath -ldflags "-s -w -X holdline/cmd.version=$(VERSION)" -o $(BIN)/image/holdline .
	docker build -q -f Dockerfile -t $(IMAGE):$(TAG) --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) $(BIN)/image

# The stack for Docker Swarm on a real engine: about eight minutes.
swarm-test:
	swarm/test.sh --remove-volume

# The whole test suite, with a redis-server of its own. README commands that need buf or Chromium are skipped,
# with a word, where these are missing: `make buf` builds it. One package at a time: a hand-off has half a second, which
# a machine of two cores may not find beside the tests that kill and flood. Beside other work the journeys take ten minutes.
test: redis
	$(if $(RACE),,@echo 'no C compiler: testing without the race detector (install gcc for it)')
	PATH="$(BIN):$$PATH" $(GO) test $(RACE) -p 1 -timeout 20m ./...

# Services and callers of other makers, each with each, and the programs of docs/; needs Node and npm, and takes Python's grpcio,
# protoc and Chromium where they are.
world: redis e2e/world/node_modules
	$(GO) test ./e2e -run '^TestWorld' -count=1 -timeout 20m -world

e2e/world/node_modules: e2e/world/package-lock.json
	npm --prefix e2e/world ci --ignore-scripts --no-audit --no-fund
	@touch $@

# Everything is killed at random under load, five times a minute long; `make test` has a short run. Another seed, rate or
# length: make chaos CHAOS='-chaos.seeds 6 -chaos.rate 500 -chaos.time 20s'. docs/chaos.md says what is checked.
CHAOS ?= -chaos.seeds 1,2,3,4,5 -chaos.rate 1500 -chaos.time 1m
chaos: redis
	$(GO) test ./e2e -run '^TestChaos$$' -count=1 -timeout 60m -v $(CHAOS)

# Gets redis-server where that can be done, and says how where it can't.
redis:
	@command -v redis-server >/dev/null || command -v valkey-server >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo 'redis-server is missing: installing it with apt-get'; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server; \
	else \
	  echo 'the tests need redis-server or valkey-server on PATH. Debian, Ubuntu: sudo apt-get install redis-server; macOS: brew install redis'; exit 1; \
	fi

# Tools have a module of their own: buf wants a newer protobuf than we ship. The linter takes minutes to build,
# and nobody needs it who does not run make lint.
buf: $(BIN)/buf

tools: $(BIN)/buf $(BIN)/golangci-lint

$(BIN)/buf: tools/go.mod
	$(GO) build -modfile=tools/go.mod -o $@ github.com/bufbuild/buf/cmd/buf

$(BIN)/golangci-lint: tools/go.mod
	$(GO) build -modfile=tools/go.mod -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

generate: $(BIN)/buf
	PATH="$(BIN):$$PATH" buf generate
	$(BIN)/buf build --exclude-imports -o internal/route/shipped.binpb

lint: tools
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(BIN)/golangci-lint run ./...

# Against the last change of the schemas before this commit's.
breaking: $(BIN)/buf
	@before=$$(git log --format=%H -- proto buf.yaml | sed -n 2p); \
	if [ -z "$$before" ]; then echo 'breaking: these are the first schemas'; \
	else $(BIN)/buf breaking --against ".git#ref=$$before"; fi

bench:
	$(GO) run -C bench .

# Whether the tests notice small mistakes, one by one; takes long, and is no part of the gate.
mutants:
	$(GO) run -C tools ./mutants $(ONLY)

clean:
	rm -rf $(BIN)
