# Everything a user or a developer runs. Each target installs what it needs and is missing; on
# systems other than Debian and Ubuntu it says what to install.

.DEFAULT_GOAL := help
.PHONY: help run test test-web lint bench

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1 \t\2/p' $(MAKEFILE_LIST) | expand -t 16

run: ## Serve on http://localhost:8000 (PORT) with a Redis of its own (REDIS_PORT)
	@scripts/run

test: ## Run the tests that need Rust and redis-server
	@scripts/install test
	cargo test --locked --workspace

test-web: ## Run the tests that need a browser or Python as well
	@scripts/install test web
	cargo test --locked --workspace --features ratelimit-tests/web --test tests -- web:: readme::

lint: ## Check format, lints, scripts, licences and advisories
	@scripts/install lint
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --all-features -- --deny warnings
	shellcheck scripts/* .ci/run module/benches/instructions
	@scripts/check-dependencies

bench: ## Count the instructions that a server spends on each command
	@scripts/install run bench
	cargo build --locked --release --target-dir target --package ratelimit-module
	@module/benches/instructions target/release/libratelimit.so
