# Two images: a Redis server with the module, and the gateway (the default).
#
#   docker build --target redis --tag ratelimit-redis .
#   docker build --target gateway --tag ratelimit-gateway .
#
# The module on Valkey: docker build --target redis --build-arg REDIS_IMAGE=valkey/valkey:9.1-trixie .

# The target to build when a host passes build arguments and cannot name a target.
ARG IMAGE=gateway

# Any image with docker-entrypoint.sh and glibc 2.36 or later, the version in the image of Rust.
ARG REDIS_IMAGE=redis:8.6-trixie

# The manifests, with empty sources: a build of these builds the dependencies alone, and Docker
# repeats it only when these files change.
FROM rust:1.95-bookworm AS manifests
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY examples/axum/Cargo.toml examples/axum/
COPY module/Cargo.toml module/
COPY module/limiter/Cargo.toml module/limiter/
COPY gateway/Cargo.toml gateway/
COPY gateway/benches/baseline/Cargo.toml gateway/benches/baseline/
COPY gateway/calendar/Cargo.toml gateway/calendar/
COPY gateway/envoy/Cargo.toml gateway/envoy/
COPY gateway/import/Cargo.toml gateway/import/
COPY gateway/policies/Cargo.toml gateway/policies/
COPY gateway/replay/Cargo.toml gateway/replay/
COPY gateway/store/Cargo.toml gateway/store/
COPY tests/Cargo.toml tests/
COPY tests/clock/Cargo.toml tests/clock/
COPY tests/faults/Cargo.toml tests/faults/
COPY tests/tokens/Cargo.toml tests/tokens/
RUN mkdir examples/axum/src module/src module/limiter/src gateway/src gateway/benches/baseline/src \
        gateway/calendar/src gateway/envoy/src gateway/import/src gateway/policies/src \
        gateway/policies/benches gateway/replay/src gateway/store/src tests/benches \
        tests/clock/src tests/faults/src tests/tokens/src \
    && touch examples/axum/src/main.rs module/src/lib.rs module/limiter/src/lib.rs gateway/src/lib.rs \
        gateway/benches/baseline/src/main.rs gateway/calendar/src/lib.rs \
        gateway/envoy/src/lib.rs gateway/import/src/lib.rs gateway/policies/src/lib.rs \
        gateway/policies/benches/matching.rs gateway/policies/benches/bombs.rs \
        gateway/replay/src/lib.rs gateway/store/src/lib.rs tests/clock/src/lib.rs \
        tests/faults/src/lib.rs tests/tokens/src/lib.rs tests/tests.rs tests/benches/outage.rs

FROM rust:1.95-bookworm AS module
WORKDIR /src
COPY --from=manifests /src ./
RUN cargo build --locked --release --package ratelimit-module \
    && cargo clean --locked --release --package ratelimit-module --package limiter
COPY module module
RUN cargo build --locked --release --package ratelimit-module

FROM rust:1.95-bookworm AS service
WORKDIR /src
COPY --from=manifests /src ./
RUN cargo build --locked --release --package ratelimit-gateway --features envoy \
    && cargo clean --locked --release --package ratelimit-gateway --package limiter \
        --package calendar --package envoy --package import --package policies --package replay --package store
COPY module/limiter module/limiter
COPY gateway gateway
RUN cargo build --locked --release --package ratelimit-gateway --features envoy
# All files that the program needs: itself, its libraries, and the trusted authorities of TLS.
WORKDIR /root-of-image
RUN ldd /src/target/release/ratelimit-gateway | grep --only-matching '/[^ ]*' \
        | xargs cp --dereference --parents --target-directory=. \
    && cp --dereference --parents --target-directory=. /etc/ssl/certs/ca-certificates.crt \
    && install -D --target-directory=usr/local/bin /src/target/release/ratelimit-gateway

FROM ${REDIS_IMAGE} AS redis
COPY --from=module /src/target/release/libratelimit.so /usr/local/lib/
COPY module/entrypoint.sh /usr/local/bin/ratelimit-entrypoint.sh
ENTRYPOINT ["ratelimit-entrypoint.sh"]
ARG VERSION
ARG REVISION
ARG SOURCE
LABEL org.opencontainers.image.title="ratelimit-redis" \
      org.opencontainers.image.description="Redis with rate limiting as native commands" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"

FROM scratch AS gateway
COPY --from=service /root-of-image /
USER 65532:65532
# Health and metrics have a port of their own, whose connections clients cannot take.
ENV ADMIN_PORT=8081
EXPOSE 8000 8081
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s CMD ["ratelimit-gateway", "healthcheck", "--live"]
ENTRYPOINT ["ratelimit-gateway"]
ARG VERSION
ARG REVISION
ARG SOURCE
LABEL org.opencontainers.image.title="ratelimit-gateway" \
      org.opencontainers.image.description="HTTP API over the RATELIMIT commands of Redis" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"

FROM ${IMAGE}
