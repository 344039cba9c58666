# Matriarch. `make` lists what there is; `make demo` and `make test` need nothing but a Debian or Ubuntu machine.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# A shell without login profile does not find rustup's programs by itself.
export HOME ?= $(shell getent passwd "$$(id -u)" | cut -d: -f6)
export PATH := $(HOME)/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$(PATH)

# dev builds in two minutes, release runs as shipped.
PROFILE ?= dev
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
BIN_DIR := $(TARGET_DIR)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
LAB := $(BIN_DIR)/hactl-lab
# Only the parts that make namespaces need root.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo -E env "PATH=$(PATH)")
# Labs at a time. Scenarios mostly wait; more of them would measure two cores instead of the cluster.
JOBS ?= 3
# make integration TEST=primary_power_loss runs one scenario.
TEST ?=
# make integration POSTGRES=/usr/lib/postgresql/16/bin takes another PostgreSQL than the newest installed; below /usr.
POSTGRES ?=

# Repetitions of each event of make bench-failover; CLASSIC_ROUNDS=0 leaves the classic stack out, EVENT=switchover measures
# only the events whose name contains the word.
ROUNDS ?= 5
CLASSIC_ROUNDS ?= 3
EVENT ?=
# What is measured is measured as shipped, unless somebody says otherwise.
BENCH_PROFILE = $(if $(filter file,$(origin PROFILE)),release,$(PROFILE))
# How long make fault-run, make calm-run, make soak and make fuzz take, and what decides the faults.
SECONDS ?= 1800
SEED ?=
# Repetitions of each fault of make fence-run in each mode.
RUNS ?= 50
# Random moments of each way to lose an agent in make moments.
MOMENTS ?= 100
# make fuzz TARGET=login fuzzes one reader.
TARGET ?=

SIM_TESTS = $(patsubst crates/ha-sim/tests/%.rs,--test %,$(wildcard crates/ha-sim/tests/*.rs))

.PHONY: help setup build build-tests fmt lint deny unit sim mutants model integration check test demo lab down pictures bench \
	bench-failover bench-lab bench-vip bench-vip-lab bench-proxy bench-proxy-lab bench-reads bench-reads-lab bench-relays \
	bench-relays-lab fault-run fence-run moments calm-run soak fuzz newer-libpq test-watchdog clean

help: ## List these targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing (PostgreSQL, etcd, protoc, ...); silent when nothing is
	@deploy/setup.sh

build: ## Build all programs (PROFILE=release for the shipped ones)
	cargo build --locked --workspace --bins --profile $(PROFILE)

# Workspaces of their own: nothing of them is part of a plain build.
OTHER_WORKSPACES = fuzz experiments/relay-ways

fmt: ## Check the formatting
	cargo fmt --all --check
	@for other in $(OTHER_WORKSPACES); do cargo fmt --all --check --manifest-path $$other/Cargo.toml || exit 1; done

lint: ## Clippy with the workspace's lints, warnings are errors
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@# Not among all targets, because a plain `cargo test` must not run it.
	cargo clippy --locked --workspace --test failures -- -D warnings

deny: ## Licences, bans and sources of the dependencies
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check licenses bans sources; \
	else cargo test --locked -q --workspace --test policy; fi

# Always the whole workspace: a part of it alone would build its dependencies again with other features.
unit: ## Unit, scenario and contract tests, and the simulation
	cargo test --locked --workspace

sim: ## Simulated clusters alone (SEEDS=10000 for more)
	cargo test --locked --workspace $(SIM_TESTS)

mutants: ## Broken rules: which seed of the simulation notices each, and as what
	cargo test --locked --workspace --test mutants -- --nocapture

# Within bounds everything is tried, so the bounds decide how long it takes: MODEL_SECONDS for each of eight scopes.
model: ## Check the failover protocol exhaustively in larger scopes (MODEL_SECONDS=600 for each)
	cargo run --locked -p ha-model --example explore -- $(or $(MODEL_SECONDS),300)

# What `cargo test` has built is used: for the programs alone cargo would build their dependencies again, with other features.
build-tests:
	cargo build --locked --workspace --profile $(PROFILE) $(if $(filter dev,$(PROFILE)),--all-targets,--bins)

integration: build-tests ## Every failure on real PostgreSQL and etcd (TEST=name for one of them)
	$(if $(AS_ROOT),CARGO_TARGET_$(RUNNER_KEY)_RUNNER='$(AS_ROOT)') MATRIARCH_BIN_DIR='$(BIN_DIR)' MATRIARCH_POSTGRES_BIN='$(POSTGRES)' \
	cargo test --locked --workspace --test failures -- --test-threads=$(JOBS) $(TEST)

# Twelve moments each are part of every test run.
moments: setup ## The guard beside PostgreSQL when its agent is killed, stopped or frozen at MOMENTS=100 random moments each
	$(if $(AS_ROOT),CARGO_TARGET_$(RUNNER_KEY)_RUNNER='$(AS_ROOT)') MOMENTS=$(MOMENTS) \
	cargo test --locked --workspace --test agent_lost -- --nocapture at_any_moment

# Not part of the integration run: the distribution's libpq is older, and the package brings another one.
newer-libpq: build-tests ## Direct TLS and encrypted cancel requests of libpq 17 and newer, by psycopg's own (needs pip)
	pip install --quiet --upgrade --no-deps --target '$(TARGET_DIR)/newer-libpq' --only-binary=:all: \
		--python-version $(shell /usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])') \
		psycopg psycopg-binary typing_extensions
	$(if $(AS_ROOT),CARGO_TARGET_$(RUNNER_KEY)_RUNNER='$(AS_ROOT)') MATRIARCH_BIN_DIR='$(BIN_DIR)' MATRIARCH_POSTGRES_BIN='$(POSTGRES)' \
	MATRIARCH_NEWER_LIBPQ='$(TARGET_DIR)/newer-libpq' \
	cargo test --locked --workspace --test failures -- --ignored --test-threads=$(JOBS) newer_libpq

# Emulated machines; each says on its console what happens.
test-watchdog: ## Real watchdog devices in a virtual machine: reset when the guard is stopped, none when it ends
	@deploy/setup.sh watchdog
	cargo test --locked --workspace --test virtual_machine -- --ignored --nocapture --test-threads=1 --skip guest

check: fmt lint deny unit ## The fast part: everything that needs no lab

test: ## Everything, as continuous integration runs it
	@deploy/setup.sh test
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory integration

demo: setup ## Watch the whole cluster bootstrap, switch over and survive two power losses
	@$(MAKE) --no-print-directory build
	$(AS_ROOT) $(LAB) --dir $(TARGET_DIR)/labs/demo demo

lab: setup ## Bring the reference cluster up and leave it running; break it with `hactl-lab`
	@$(MAKE) --no-print-directory build
	@$(AS_ROOT) $(LAB) up
	@echo "break it: $(LAB) --help      end it: make down"

down: ## End what `make lab` left running
	@test -x $(LAB) && $(AS_ROOT) $(LAB) down || true

pictures: build ## Take the pictures of the status page in docs/images (needs chromium)
	@deploy/setup.sh pictures
	@$(AS_ROOT) docs/images/take.sh $(LAB)

bench: bench-failover bench-vip bench-proxy ## All that is measured against the classic stack

bench-failover: ## How long writes stand still at each event, beside Patroni + HAProxy + keepalived (ROUNDS=5 CLASSIC_ROUNDS=3)
	@deploy/setup.sh test
	@$(MAKE) --no-print-directory bench-lab PROFILE=$(BENCH_PROFILE)

bench-lab: build
	$(AS_ROOT) $(LAB) --dir $(TARGET_DIR)/labs bench-failover --rounds $(ROUNDS) --classic-rounds $(CLASSIC_ROUNDS) \
		$(if $(EVENT),--only '$(EVENT)') --results $(TARGET_DIR)/bench-failover.json

bench-vip: ## What becomes of writes and of the floating address when its holder fails, beside HAProxy + keepalived (ROUNDS=5 CLASSIC_ROUNDS=3)
	@deploy/setup.sh test
	@$(MAKE) --no-print-directory bench-vip-lab PROFILE=$(BENCH_PROFILE)

bench-vip-lab: build
	$(AS_ROOT) $(LAB) --dir $(TARGET_DIR)/labs bench-vip --rounds $(ROUNDS) --classic-rounds $(CLASSIC_ROUNDS) \
		$(if $(EVENT),--only '$(EVENT)') --results $(TARGET_DIR)/bench-vip.json

bench-proxy: ## pg-proxy beside HAProxy and PgBouncer: transactions, latency, processor time, memory (ROUNDS=5)
	@deploy/setup.sh bench
	@$(MAKE) --no-print-directory bench-proxy-lab PROFILE=$(BENCH_PROFILE)

bench-proxy-lab: build
	$(AS_ROOT) $(LAB) --dir $(TARGET_DIR)/labs bench-proxy --rounds $(ROUNDS) $(if $(EVENT),--only '$(EVENT)') \
		--results $(TARGET_DIR)/bench-proxy.json

bench-reads: ## What linearizable reads cost: two pg-proxies in front of one cluster, with and without (ROUNDS=5)
	@deploy/setup.sh test
	@$(MAKE) --no-print-directory bench-reads-lab PROFILE=$(BENCH_PROFILE)

bench-reads-lab: build
	$(AS_ROOT) $(LAB) --dir $(TARGET_DIR)/labs bench-proxy --reads --rounds $(ROUNDS) $(if $(EVENT),--only '$(EVENT)') \
		--results $(TARGET_DIR)/bench-reads.json

bench-relays: ## Ways to pass bytes on: pg-proxy, HAProxy, tokio's copy, splice, BPF sockmap (ROUNDS=5)
	@deploy/setup.sh bench
	CARGO_TARGET_DIR='$(TARGET_DIR)/experiments' cargo build --locked --release --manifest-path experiments/relay-ways/Cargo.toml
	@$(MAKE) --no-print-directory bench-relays-lab PROFILE=$(BENCH_PROFILE)

bench-relays-lab: build
	$(AS_ROOT) $(LAB) --dir $(TARGET_DIR)/labs bench-proxy --rounds $(ROUNDS) $(if $(EVENT),--only '$(EVENT)') \
		--relays $(TARGET_DIR)/experiments/release/relay-ways --results $(TARGET_DIR)/bench-relays.json

fault-run: setup ## Random faults under load, and the proof that nothing is lost (SECONDS=1800 SEED=...)
	@$(MAKE) --no-print-directory build
	$(AS_ROOT) $(LAB) --dir $(TARGET_DIR)/labs/fault-run fault-run --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

fence-run: setup ## What a primary acknowledges that lost its agent or its network, at random moments (RUNS=50 SEED=...)
	@$(MAKE) --no-print-directory build
	$(AS_ROOT) $(LAB) --dir $(TARGET_DIR)/labs/fence-run fence-run --runs $(RUNS) $(if $(SEED),--seed $(SEED)) \
		$(if $(EVENT),--only '$(EVENT)')

calm-run: setup ## Full processor load without a fault: nobody may take over (SECONDS=1800)
	@$(MAKE) --no-print-directory build
	$(AS_ROOT) $(LAB) --dir $(TARGET_DIR)/labs/calm-run calm-run --seconds $(SECONDS)

soak: setup ## Everything that clients do through two proxies that stay: nothing may be left behind (SECONDS=1800 SEED=...)
	@$(MAKE) --no-print-directory build
	$(AS_ROOT) $(LAB) --dir $(TARGET_DIR)/labs/soak soak --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) \
		--samples $(TARGET_DIR)/soak.tsv

fuzz: ## Fuzz what reads strangers' bytes (SECONDS=3600 in all, TARGET=login for one of fuzz/README.md)
	fuzz/run.sh $(SECONDS) $(TARGET)

clean: down ## Remove everything built
	cargo clean

# The host triple in the spelling of cargo's environment variables.
RUNNER_KEY = $(shell rustc -vV | awk '/^host/ { print toupper($$2) }' | tr - _)
