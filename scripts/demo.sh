#!/usr/bin/env bash
# Starts a real distroless container, breaks into it, and investigates it.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
	echo "demo: it starts containers and reads their processes, which needs root: sudo make demo" >&2
	exit 1
fi
go=$(scripts/go.sh)
export PATH="$(dirname "$go"):$PATH" # for what the lab and tests compile
"$go" build -o bin/lab ./lab/cmd/lab
trap 'bin/lab demo-down' EXIT
state=$(mktemp)
bin/lab demo -env "$state"
# shellcheck disable=SC1090
set -a; . "$state"; set +a; rm -f "$state"
rm -rf demo-out; mkdir -p demo-out
echo
echo "\$ sherd targets"
bin/sherd targets
echo
echo "\$ sherd investigate $TARGET --html demo-out/report.html"
status=0
bin/sherd investigate "$TARGET" -o demo-out/checkout.sherd --html demo-out/report.html --json demo-out/verdict.json || status=$?
# 3 is the answer that we want here: it was judged compromised or suspicious.
if [ $status != 3 ]; then
	echo "demo: sherd investigate ended with status $status, not 3" >&2
	exit 1
fi
echo
echo "\$ sherd verify demo-out/checkout.sherd"
bin/sherd verify demo-out/checkout.sherd
echo
echo "The report is demo-out/report.html. Try:  bin/sherd show demo-out/checkout.sherd 1"
