# Sherd's build. `make demo` and `make test` do all set-up themselves on a Debian machine.
SHELL       := /bin/bash
GO          := $(shell scripts/go.sh)
BIN         := $(CURDIR)/bin
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS     := -s -w -X main.version=$(VERSION)
GOLANGCI    := v2.15.0
FUZZTIME    ?= 20s
# DuckDB, in sherd, is C++. The collector, and whatever runs inside the lab's containers, is built without.
export CGO_ENABLED ?= 1
# What a build starts finds the same Go.
export PATH := $(dir $(GO)):$(PATH)

# Whatever compiles packages of ours finds libyara through pkg-config and links it dynamically: no tags, no environment. Only the program
# that is shipped is static, and pkg-config does not know what libmagic itself needs.
YARALIBS    := -lyara -lcrypto -ljansson -lmagic -llzma -lbz2 -lz -lm

.PHONY: all build demo demo-down test test-race lint bench score fuzz image lab-up lab-down setup libyara clean

all: build

build: $(BIN)/sherd $(BIN)/sherd-collector $(BIN)/kubectl-sherd

# Both programs are one static file each, so that their images are FROM scratch. The linker's warnings are about functions of glibc
# that DuckDB and OpenSSL have for extensions, engines and downloads, none of which is used.
$(BIN)/sherd: libyara FORCE
	@mkdir -p $(BIN)
	CGO_ENABLED=1 $(GO) build -trimpath -tags netgo,osusergo,yara_static -ldflags '$(LDFLAGS) -linkmode external -extldflags "-static -Wl,--no-warnings $(YARALIBS)"' -o $@ ./cmd/sherd

$(BIN)/sherd-collector: FORCE
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath -tags netgo,osusergo -ldflags '$(LDFLAGS)' -o $@ ./cmd/sherd-collector
# The same program as a plugin of kubectl, wherever this folder is on the PATH; the second file completes its command line there.
$(BIN)/kubectl-sherd: $(BIN)/sherd
	@ln -sf sherd $@
	@install -m 755 scripts/kubectl_complete-sherd $(BIN)/kubectl_complete-sherd
FORCE:

setup:
	@scripts/setup.sh

# What a build can't do without, for those who start with one.
libyara:
	@[ -e /usr/include/yara.h ] || scripts/setup.sh

# A real distroless container, broken into, then investigated.
demo: setup build
	@scripts/demo.sh

demo-down:
	@$(GO) run ./lab/cmd/lab demo-down

# Everything: unit tests, the command line, and the real runtimes. Needs root for the latter; a test that must skip says so.
test: setup build
	@scripts/test.sh

test-race: setup
	SHERD_RACE=1 scripts/test.sh

lint: libyara $(BIN)/golangci-lint-$(GOLANGCI)
	$(BIN)/golangci-lint-$(GOLANGCI) run ./...

$(BIN)/golangci-lint-$(GOLANGCI):
	@mkdir -p $(BIN)
	GOBIN=$(BIN)/tmp $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	mv $(BIN)/tmp/golangci-lint $@

bench: setup build
	@scripts/bench.sh

# Attacks and honest work whose truth is known, played, judged and compared: docs/scoreboard.md. NAMES=… plays some of them.
score: setup build
	$(GO) run ./lab/cmd/score $(if $(NAMES),$(NAMES),-o docs/scoreboard.md)
	@$(GO) run ./lab/cmd/lab down

# Each fuzz target for FUZZTIME.
fuzz: libyara
	@scripts/fuzz.sh $(FUZZTIME)

# Images FROM scratch, as files that docker load, ctr image import and skopeo take.
image: build
	$(GO) run ./tools/image -version '$(VERSION)' -bin $(BIN) -out dist

lab-up: setup
	$(GO) run ./lab/cmd/lab up

lab-down:
	$(GO) run ./lab/cmd/lab down

clean:
	rm -rf $(BIN) dist
