# syntax=docker/dockerfile:1
#
# The build has two steps, so that a change of the source recompiles only this project's crates. The image holds
# the binary and the libraries it loads. It writes only to /data (and to /lake with LAKE_DIR=/lake, see
# docker-compose.yml), so it can run read-only:
#
#   docker build -t ftap .
#   docker run --read-only --cap-drop=ALL --security-opt=no-new-privileges \
#     -v ftap-data:/data -p 127.0.0.1:8080:8080 \
#     -e DASHBOARD_ADDR=0.0.0.0:8080 -e DASHBOARD_TOKEN="$(openssl rand -hex 24)" ftap run
#
# `scripts/check-container` tests these steps, and the conditions of the finished image, without Docker.

FROM rust:1-bookworm AS build
# rust:1-bookworm includes the C compiler, make, pkg-config and libssl-dev.
WORKDIR /build

# The dependencies: all manifests, with empty crates in place of the project's.
COPY Cargo.toml Cargo.lock ./
COPY .cargo/config.toml .cargo/
COPY actors/Cargo.toml actors/
COPY bench/Cargo.toml bench/
COPY chaos/Cargo.toml chaos/
COPY crates/broker/Cargo.toml crates/broker/
COPY crates/cdc/Cargo.toml crates/cdc/
COPY crates/dashboard/Cargo.toml crates/dashboard/
COPY crates/dataset/Cargo.toml crates/dataset/
COPY crates/fraud/Cargo.toml crates/fraud/
COPY crates/fx/Cargo.toml crates/fx/
COPY crates/http-client/Cargo.toml crates/http-client/
COPY crates/kafka/Cargo.toml crates/kafka/
COPY crates/lake/Cargo.toml crates/lake/
COPY crates/postgres/Cargo.toml crates/postgres/
COPY crates/query/Cargo.toml crates/query/
COPY crates/schedule/Cargo.toml crates/schedule/
COPY crates/supervision/Cargo.toml crates/supervision/
COPY crates/telemetry/Cargo.toml crates/telemetry/
COPY crates/testing/Cargo.toml crates/testing/
COPY crates/transaction/Cargo.toml crates/transaction/
COPY crates/verify/Cargo.toml crates/verify/
COPY crates/warehouse/Cargo.toml crates/warehouse/
COPY crates/watch/Cargo.toml crates/watch/
COPY scripts/empty-crates scripts/
RUN scripts/empty-crates
RUN cargo build --release --locked --bin ftap

# The source. cargo compares times, and these files may be older than what was just built.
COPY . .
RUN find . -name '*.rs' -exec touch {} +
RUN cargo build --release --locked --bin ftap

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g \
 && rm -rf /var/lib/apt/lists/* \
 && mkdir /data /lake && chown 10001:10001 /data /lake
COPY --from=build /build/target/release/ftap /usr/local/bin/ftap
# Numeric, so that an orchestrator can verify that it is not root.
USER 10001:10001
# A relative GOOGLE_APPLICATION_CREDENTIALS is also looked up in /credentials.
WORKDIR /
VOLUME /data
ENV DATA_DIR=/data LOG_FORMAT=json
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/local/bin/ftap", "health"]
ENTRYPOINT ["/usr/local/bin/ftap"]
CMD ["run"]
