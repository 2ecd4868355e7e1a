#!/usr/bin/env bash
# Writes what the program is made of as a CycloneDX document, clickhouse-copier.cdx.json, for tools that look for known holes.
# Needs cargo-cyclonedx: cargo install --locked cargo-cyclonedx
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo cyclonedx --format json --no-build-deps --target x86_64-unknown-linux-musl --override-filename clickhouse-copier.cdx
rm -f tests/lab/clickhouse-copier.cdx.json
