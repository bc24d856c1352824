# make demo      builds Stockade and shows what a sandbox enforces and refuses, and what the service withstands
# make test      formatting, lints and every test, the real agents included
# make test-agents  the real agents alone: first screens, logins, messages and answers through the service
# make test-parallax  the clients that Parallax has, from npm, against the service and its registry
# make fuzz      the parsers against whatever a fuzzer thinks of
# make dist      packages: .deb and .rpm; make reproduce: and whether they come out the same elsewhere
# make test-vm   the tests on other kernels, in emulated machines
#
# All install what they need with apt-get, if it is missing, and all need root: a sandbox is made of
# namespaces, cgroups and idmapped mounts, and a test that skipped them would prove nothing.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
STOCKADE := target/release/stockade

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1|\2/p' Makefile | while IFS='|' read -r what why; do printf '  %-18s %s\n' "$$what" "$$why"; done

root:
	@packaging/prerequisites.sh root

build: ## the release binaries, six programs in target/release
	@packaging/prerequisites.sh build
	@echo "== building Stockade (release)"
	cargo build --release --locked

demo: root ## sandboxed sessions, then the service: each claim followed by its evidence
	@packaging/prerequisites.sh build demo
	@echo "== building Stockade (release)"
	cargo build --release --locked
	@packaging/demo.sh $(STOCKADE)

test: root ## formatting, lints and every test, the escape attempts included
	@packaging/prerequisites.sh build lint test
	@packaging/test-agents.sh install
	@echo "== 1/6 formatting"
	cargo fmt --all --check
	@echo "== 2/6 lints, with every feature and with none"
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --package stockade --lib --no-default-features --locked -- -D warnings
	@echo "== 3/6 building the programs that the tests start"
	cargo build --workspace --locked
	@echo "== 4/6 tests"
	cargo test --workspace --locked
	@echo "== 5/6 the registry, against a newer etcd"
	@newer="$$(packaging/etcd.sh path newer)"; if [ -n "$$newer" ]; then \
		STOCKADE_ETCD="$$newer" cargo test --workspace --locked --test registry; \
		else echo "left out: there is no newer etcd here (packaging/etcd.sh fetch newer)"; fi
	@echo "== 6/6 the real agents"
	@packaging/test-agents.sh

fuzz: ## coverage-guided fuzzing of the parsers, a minute each (needs g++)
	@packaging/prerequisites.sh build
	@sandbox-tests/fuzz/run 60

bench: root ## start-up against peers, steady state against the host, the gateway against plain loopback
	@packaging/prerequisites.sh build bench
	cargo build --release --locked
	@benches/startup $(STOCKADE)
	@benches/steady $(STOCKADE)
	@benches/egress $(STOCKADE)-egress
	@benches/service $(STOCKADE)

soak: root ## the service at work for an hour, with kills, looked over for losses, growth and leftovers
	@packaging/prerequisites.sh build
	cargo build --release --locked
	@benches/soak 60 $(STOCKADE)
	cargo bench --locked --no-default-features --features audit --bench audit

test-vm: root ## the tests, then the packages, on Debian 12 with Linux 6.1 and 6.12 and a pure cgroup v2 tree, in emulated machines
	@packaging/prerequisites.sh build dist
	@sandbox-tests/vm/test-vm
	@packaging/dist.sh
	@sandbox-tests/vm/test-packages

reproduce: dist ## once more from a clean clone elsewhere: the same bytes?
	@packaging/reproduce.sh

dist: ## the .deb and the .rpm, in target/dist/packages
	@packaging/prerequisites.sh build dist
	@packaging/dist.sh

test-agents: root ## Claude Code, Codex, Gemini CLI and aider (1.4 GB, downloaded once): first screens, logins, messages
	@packaging/prerequisites.sh build
	@packaging/test-agents.sh

test-parallax: root ## the clients of etcd, gRPC, HTTP and WebSockets that Parallax has (npm, downloaded once)
	@packaging/prerequisites.sh build test
	@clients="$$(packaging/parallax.sh)" && STOCKADE_PARALLAX="$$clients" cargo test --locked --test parallax

.PHONY: help root build dist reproduce demo test test-agents test-parallax test-vm fuzz bench soak
