#!/usr/bin/env bash
# Puts together what a package has beside the program, in target/package: completions for shells and the manual page, which the
# program prints itself; examples; a changelog in the form that Debian wants. The program is the argument, or the static one that static.sh makes.
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
version=$("$program" --version)
{
    echo "clickhouse-copier (${version##* }-1) unstable; urgency=medium"
    printf '\n  * See /usr/share/doc/clickhouse-copier/CHANGELOG.md.\n\n'
    # The same package from the same commit is the same to the byte.
    echo " -- clickhouse-copier maintainers <maintainers@clickhouse-copier.invalid>  $(date -uR -d "@$(git log -1 --format=%ct)")"
} >"$out/changelog"
cp -r examples/{systemd,cron.d,docker-compose,kubernetes} task-configs "$out/examples/"
