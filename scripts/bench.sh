#!/usr/bin/env bash
# Measures Sherd beside what a user would run instead, in one run: times, ratios, peak memory. Needs root.
# varc comes from PyPI into an environment of its own, for this comparison alone.
set -euo pipefail
cd "$(dirname "$0")/.."
go=$(scripts/go.sh)
export PATH="$(dirname "$go"):$PATH" # for what the lab and tests compile
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sherd
venv=$cache/varc
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import varc_core' 2>/dev/null; then
	mkdir -p "$cache"
	python3 -m venv "$venv" && "$venv/bin/pip" install -q varc==1.0.9 lz4 || venv=
fi
"$go" build -o bin/bench ./lab/cmd/bench
"$go" build -o bin/lab ./lab/cmd/lab
state=$(mktemp)
trap 'bin/lab demo-down >/dev/null; rm -f "$state"' EXIT
bin/lab demo -env "$state" >/dev/null
set -a; . "$state"; set +a
echo "$(nproc) cores, $(free -g | awk '/^Mem/{print $2}') GiB, kernel $(uname -r | cut -d- -f1), gdb $(gdb --version | sed -n '1s/.* //p'), $(zstd --version | grep -o 'v[0-9.]*' | head -1 | sed 's/^/zstd /')"
bin/bench ${venv:+-varc "$venv/bin/python"} "$@"
