#!/usr/bin/env bash
# Builds the Debian package from the static program: target/debian/clickhouse-copier_*.deb. Needs what static.sh needs, and
# cargo-deb: cargo install --locked cargo-deb
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
packaging/static.sh
packaging/assets.sh
cargo deb --no-build --target x86_64-unknown-linux-musl
