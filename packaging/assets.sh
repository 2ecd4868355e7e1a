#!/usr/bin/env bash
# Puts together what a package has beside the program, in target/package: completions for shells and the manual page, which the
# program prints itself; examples; the changelog. The program is the argument, or the static one that static.sh makes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
program=${1:-${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-musl/release/clickhouse-copier}
# Where Cargo.toml looks for them.
out=target/package
rm -rf "$out"
mkdir -p "$out"/{completions,man,examples}
"$program" completions bash >"$out/completions/clickhouse-copier"
"$program" completions zsh >"$out/completions/_clickhouse-copier"
"$program" completions fish >"$out/completions/clickhouse-copier.fish"
"$program" man | gzip -9n >"$out/man/clickhouse-copier.1.gz"
gzip -9nc CHANGELOG.md >"$out/changelog.gz"
cp -r examples/{systemd,cron.d,docker-compose,kubernetes} task-configs "$out/examples/"
