# The commands of users and developers. Each target installs the missing programs that it needs; on
# systems other than Debian and Ubuntu it prints their names.

.DEFAULT_GOAL := help
.PHONY: help run test test-web test-proxies test-images test-package test-servers memcheck fuzz lint dist dist-in-container images deb bench bench-scale bench-outage

# Two tests for each core: most of them wait for servers. Memcheck leaves no core without work.
test test-web test-proxies test-servers: export RUST_TEST_THREADS ?= $(shell expr 2 \* $$(nproc))

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1 \t\2/p' $(MAKEFILE_LIST) | expand -t 24

run: ## Serve on http://localhost:8000 (PORT) with a Redis of its own (REDIS_PORT); PROFILE=release: as fast as a release
	@scripts/run

test: ## Run the tests that need Rust and redis-server
	@scripts/install test
	cargo test --locked --workspace

test-web: ## Run the tests that need a browser, other languages, Prometheus or kubectl as well
	@scripts/install test web callers
	cargo test --locked --workspace --test tests -- --ignored --skip proxies::

# The services for Envoy are built for their tests only.
with_envoy = --features ratelimit-gateway/envoy,ratelimit-tests/envoy

# The module has the allocator of a server, and ends where a filter leaves it no test.
test-proxies: ## Run the examples for proxies with nginx, HAProxy, Caddy, Traefik and Envoy
	@scripts/install test proxies
	cargo test --locked --workspace $(with_envoy) --test services
	cargo test --locked --workspace --exclude ratelimit-module $(with_envoy) --lib -- services:: grpc::
	cargo test --locked --workspace $(with_envoy) --test tests -- --ignored proxies::

test-images: ## Build the images, and run them and docker-compose.yml by docs/install.md
	@scripts/test-images

test-package: ## Build the Debian package, and install and use it in containers
	@scripts/test-package

test-servers: ## Run the tests of the module on several servers; SHORT=1: only the themes in which servers differ
	@scripts/install test servers
	@scripts/test-servers $(if $(SHORT),short)

memcheck: ## Run the core of the tests with the servers under valgrind
	@scripts/install test memcheck
	@scripts/memcheck

fuzz: ## Search for bytes that break a promise, for FUZZ_SECONDS (60) with each target and with a server
	@scripts/install test fuzz
	@scripts/fuzz

lint: ## Check format, lints, scripts, workflows, licences and advisories
	@scripts/install lint
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --all-features -- --deny warnings
	cargo fmt --manifest-path module/limiter/fuzz/Cargo.toml --check
	cargo clippy --locked --manifest-path module/limiter/fuzz/Cargo.toml --no-default-features \
		--target-dir target/fuzz/lint -- --deny warnings
	shellcheck $$(find scripts -maxdepth 1 -type f) packaging/debian/scripts/* packaging/debian/choose-arguments \
		.ci/run module/entrypoint.sh gateway/benches/outage
	@scripts/check-dependencies
	@scripts/check-workflows

dist: ## Make the archive of a release for this machine and the packages of the clients in target/dist
	@scripts/install check-dist
	@scripts/dist
	@scripts/dist-clients
	@scripts/check-dist target/dist/*.tar.gz

dist-in-container: ## Make the archive in a container of the oldest system that it fits: LIBC=gnu (default) or musl
	@scripts/dist-in-container $(or $(LIBC),gnu)

version = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

images: ## Build the images ratelimit-redis and ratelimit-gateway, with Docker alone
	for image in redis gateway; do \
		docker build --target $$image --build-arg VERSION=$(version) \
			--build-arg REVISION=$$(git rev-parse HEAD) \
			--tag ratelimit-$$image --tag ratelimit-$$image:$(version) . || exit; \
	done

deb: ## Build the Debian package in target/debian
	@scripts/package

bench: ## Measure commands, scripts and services, and write docs/benchmarks and the figures of the README
	@scripts/install run bench servers
	@scripts/bench

bench-scale: ## Measure how cost grows with keys, limits, connections, gateways and nodes
	@scripts/install run bench
	@scripts/bench scale

bench-outage: ## Time the gateway's answers while Redis is killed and frozen under load
	@scripts/install run
	@gateway/benches/outage
