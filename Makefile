# Steps with a tool or a rule behind them live in .ci/run, so that a machine without make runs the same.

.DEFAULT_GOAL := help
.PHONY: help build test race lint bench fuzz demo alerts screenshots vendor-check mutate chaos soak clients release deploy-check ci

CHAOS_TIME ?= 10m
SOAK_TIME ?= 10m
FUZZTIME ?= 30s
export FUZZTIME
MUTATE_TIME ?= 10m
PROMTOOL ?= go run github.com/prometheus/prometheus/cmd/promtool@v0.316.0
SHOTS ?= bin/screenshots
PKG ?= $(addprefix ./,$(wildcard internal/failure internal/workflow internal/job internal/route internal/names \
	jetstream internal/queue internal/dispatcher internal/agent internal/comfy))

## help: this list
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## build: static binaries of both commands in bin/
build:
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/dispatcher ./cmd/agent

## test: all tests, as in the README
test:
	.ci/run test

## race: the tests of all rooms that have goroutines, under the race detector
race:
	.ci/run race

## lint: vet, gofmt and golangci-lint at the pinned version
lint:
	.ci/run vet format lint

## bench: all Go benchmarks, with allocations
bench:
	go test -run='^$$' -bench=. -benchmem ./...

## fuzz: every fuzz target for FUZZTIME (30s) each
fuzz:
	.ci/run fuzz

## demo: the whole idea in under 30 s, needs nothing
demo:
	.ci/run demo

## alerts: the rules of deploy/alerts.yaml against deploy/alerts_test.yaml; the first run builds Prometheus' promtool, which takes minutes
alerts:
	$(PROMTOOL) check rules deploy/alerts.yaml
	cd deploy && $(PROMTOOL) test rules alerts_test.yaml

## screenshots: pictures of every view of the page in SHOTS, and the two of the README in docs/pictures; needs Chromium
screenshots:
	SCREENSHOTS=$(abspath $(SHOTS)) README_PICTURES=$(CURDIR)/docs/pictures go test -count=1 -run='^TestScreenshots$$' ./test/browser
	@echo 'look at them in $(SHOTS)'

## vendor-check: the vendored files of the page are those of the registry's package; needs npm
vendor-check:
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && npm pack --silent --pack-destination "$$dir" lit-html@3.3.3 >/dev/null && \
	tar -xzf "$$dir"/*.tgz -C "$$dir" && cd internal/dashboard/assets/vendor/lit-html && \
	find . -type f | while read -r f; do cmp "$$f" "$$dir/package/$$f" || exit 1; done && echo 'the vendored files are those of lit-html 3.3.3'

## mutate: lines of PKG that can be changed without a failing test, within MUTATE_TIME (10m); RESUME=1 goes on where the last run ended, SLOW=500ms leaves slow tests out (internal/route needs it), ONLY=strikes.go: these lines alone, RUN=TestA: these tests alone
mutate:
	go run ./test/mutate -time $(MUTATE_TIME) $(if $(RESUME),-resume) $(if $(SLOW),-slow $(SLOW)) $(if $(ONLY),-only '$(ONLY)') $(if $(RUN),-run '$(RUN)') $(if $(TESTS),-tests $(TESTS)) $(PKG)

## chaos: the fleet under random kills for CHAOS_TIME (10m), then recovery times; CHAOS_SEED replays a run
chaos:
	@grep -rqs --include='*_test.go' '^func TestChaos' test || { echo 'there is no test named TestChaos' >&2; exit 1; }
	CHAOS_TIME=$(CHAOS_TIME) go test -count=1 -v -timeout=0 -run='^TestChaos' ./test/chaos/...
	CHAOS_TIME=$(CHAOS_TIME) go test -count=1 -v -timeout=0 -run='^TestRecoveryTimes' ./test/chaos/...

## soak: a steady load for SOAK_TIME (10m), memory must not grow
soak:
	@grep -rqs --include='*_test.go' '^func TestSoak' test || { echo 'there is no test named TestSoak' >&2; exit 1; }
	SOAK_TIME=$(SOAK_TIME) go test -count=1 -v -timeout=0 -run='^TestSoak' ./test/...

## clients: programs of other people against a gateway; needs PyPI, npm, python3, node and curl
clients:
	test/clients/run

## release: archives of both programs for six systems in dist/, with checksums and a bill of materials; tag the commit first
release:
	.ci/release

## deploy-check: the units, the kustomization and the chart, rendered and read strictly; needs the Go module proxy
deploy-check:
	.ci/run deploy

## ci: everything that a change must pass, as CI runs it
ci:
	.ci/run
