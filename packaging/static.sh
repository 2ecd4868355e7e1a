#!/usr/bin/env bash
# Builds the program as one static file that runs on any Linux of this kind of processor:
# target/x86_64-unknown-linux-musl/release/clickhouse-copier. Needs rustup and, on Debian, the package musl-tools: the parts that
# are written in C (SQLite, AWS's libcrypto) are compiled by musl-gcc.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=x86_64-unknown-linux-musl
command -v musl-gcc >/dev/null || {
    echo 'static.sh: musl-gcc is not there: apt-get install musl-tools' >&2
    exit 1
}
rustup target add "$target"
cargo build --locked --release --target "$target"
ls -l "${CARGO_TARGET_DIR:-target}/$target/release/clickhouse-copier"
