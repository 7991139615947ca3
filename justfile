# The common commands: `just` lists them. just itself: `cargo install just`, or `pip install rust-just`.

[private]
default:
    @just --list

# Build the program for use
build:
    cargo build --release

# Stream generated transactions until everything is in the lake, then account for every row
demo:
    cargo run --release -- run --until-drained
    cargo run --release -- verify

# Run every test of the workspace, or those whose names contain FILTER
test FILTER="":
    cargo test --workspace -- {{ FILTER }}

# Run the end-to-end tests whose names contain FILTER
e2e FILTER="":
    cargo test --workspace --test end_to_end {{ FILTER }}

# Run the tests that depend on the broker on the Kafka at BROKER, host:port
kafka BROKER:
    KAFKA_BROKER={{ BROKER }} cargo test --workspace --test end_to_end on_kafka::

# Format, and check the lints as CI does
lint:
    cargo fmt --all
    cargo clippy --workspace --all-targets -- -D warnings

# Rewrite the documents that are made from the code
docs:
    FTAP_UPDATE_DOCS=1 cargo test --workspace --quiet

# Strike a run at the random moments of SEED for MINUTES
chaos MINUTES="3" SEED="1":
    cargo run --release -p chaos -- --minutes {{ MINUTES }} --seed {{ SEED }}

# Measure the commands next to other tools, and the steps next to their ceilings
bench:
    cargo run --release -p bench

# Time each model of dbt/ against DuckDB, on the lake of a run
bench-models LAKE="data/lake":
    python3 tests/dbt/bench.py target/release/ftap {{ LAKE }}

# What must hold before a change lands
ci:
    bash .ci/run

# What takes longer: storms, the compose file on a Docker engine, all end-to-end tests on Apache Kafka
nightly:
    bash .ci/nightly
