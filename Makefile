# Everything here works on a fresh Debian or Ubuntu machine with Rust (rustup), Python 3 with venv and pip, Node.js and
# npm, and a C compiler. Servers and tools are installed into $(CACHE) on first use, by root, if others cannot reach that,
# PostgreSQL into /var/cache/tributary.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: build test lint audit demo bench soak help

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tributary
TARGET := $(or $(CARGO_TARGET_DIR),target)
TESTKIT := $(TARGET)/debug/testkit
RELEASE := cargo build --release --workspace --bin tributary --bin testkit

CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny

build: ## Build everything, unoptimised
	cargo build --workspace

test: build ## Run all tests, against real servers that it starts
	cargo nextest --version >/dev/null 2>&1 || cargo install cargo-nextest --locked
	$(TESTKIT) run --mongod --postgres --s3 --azure -- cargo nextest run --workspace
	cargo test --doc --workspace

lint: $(CARGO_DENY) ## Format, clippy, documentation, licenses, spelling, container, Compose, unit
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
	$(CARGO_DENY) check bans licenses sources
	cargo build --workspace --quiet
	bin="$$($(TESTKIT) venv lint --requirements .config/lint-requirements.txt | xargs dirname)" && \
	"$$bin/typos" && \
	"$$bin/hadolint" Dockerfile && \
	"$$bin/check-jsonschema" --builtin-schema vendor.compose-spec examples/compose/compose.yaml
	examples/systemd/verify

audit: $(CARGO_DENY) ## Check dependencies against published advisories (needs the network)
	$(CARGO_DENY) check advisories

demo: ## Show the whole of it on a MongoDB: MONGODB_URI, or one that it starts
	$(RELEASE)
	TRIBUTARY="$(abspath $(TARGET))/release/tributary" $(TARGET)/release/testkit run --mongod -- examples/demo.sh

bench: ## Compare the speed with that of peers, on MONGODB_URI or a MongoDB that it starts
	$(RELEASE) --example drain --example drain_changes --example update_rate --example call_overhead
	python="$$($(TARGET)/release/testkit venv bench --requirements bench/requirements.txt)" && \
	$(TARGET)/release/testkit run --mongod -- "$$python" bench/run.py --memory \
		--tributary $(TARGET)/release/tributary --drain $(TARGET)/release/examples/drain && \
	$(TARGET)/release/testkit run --mongod -- "$$python" bench/changes.py \
		--tributary $(TARGET)/release/tributary --drain $(TARGET)/release/examples/drain_changes && \
	$(TARGET)/release/testkit run --mongod --postgres -- "$$python" bench/warehouse.py \
		--tributary $(TARGET)/release/tributary && \
	$(TARGET)/release/testkit run --mongod --s3 -- sh -c '"$$0" bench/triggers.py --aws "$$TRIBUTARY_TEST_S3_ENDPOINT" "$$@"' \
		"$$python" --tributary $(TARGET)/release/tributary --drain $(TARGET)/release/examples/drain_changes \
		--updates $(TARGET)/release/examples/update_rate --overhead $(TARGET)/release/examples/call_overhead
	cargo bench --workspace --bench decode

SOAK_SECONDS ?= 600
SOAK_RATE ?= 1000

soak: ## Follow 1,000 changes a second for ten minutes; fail unless all stays in step, in order and right
	$(RELEASE)
	python="$$($(TARGET)/release/testkit venv bench --requirements bench/requirements.txt)" && \
	$(TARGET)/release/testkit run --mongod -- "$$python" bench/soak.py --tributary $(TARGET)/release/tributary \
		--seconds $(SOAK_SECONDS) --rate $(SOAK_RATE)

help: ## Show this
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

$(CARGO_DENY):
	cargo install cargo-deny --version $(CARGO_DENY_VERSION) --locked --root $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION)
