#!/usr/bin/env bash
# Runs all tests. Integration tests share one lab, which is taken down afterwards.
set -uo pipefail
cd "$(dirname "$0")/.."
go=$(scripts/go.sh)
export PATH="$(dirname "$go"):$PATH" # for what the lab and tests compile
flags=(-timeout 40m -count=1)
packages=(./...)
if [ -n "${SHERD_RACE:-}" ]; then
	# The detector watches the program, not the lab, and what plays whole attacks over and over shows it nothing that the other live
	# tests don't; without it they take half an hour.
	flags+=(-race -skip '^(TestLiveAttacks|TestRobustClean)$')
	mapfile -t packages < <("$go" list ./... | grep -v '/lab\(/\|$\)')
fi
begin=$SECONDS
out=$(mktemp)
trap 'rm -f "$out"' EXIT

"$go" vet ./... || exit 1
if [ "$(id -u)" = 0 ]; then
	"$go" run ./lab/cmd/lab up || exit 1
	# Compiled once on a machine, for minutes.
	"$go" run ./lab/cmd/lab up kubernetes || exit 1
fi
# Packages run two at a time: the machine's runtimes are shared, and integration tests wait more than they compute.
"$go" test -p 2 "${flags[@]}" -v "${packages[@]}" >"$out" 2>&1
status=$?
if [ "$(id -u)" = 0 ]; then
	"$go" run ./lab/cmd/lab down || status=1
fi
grep -E '^(ok|FAIL|panic:|\?)|^--- FAIL|^    --- FAIL' "$out" | grep -v 'no test files' || true
if [ $status != 0 ]; then
	echo
	# What each failed test said, which stands above its verdict.
	grep -E '^ *--- FAIL' "$out" | sed 's/^ *--- FAIL: \([^ ]*\).*/\1/' | while read -r name; do
		awk -v name="$name" '/^=== (RUN|NAME|CONT|PAUSE)/ { on = ($3 == name) } on' "$out" | head -60
	done | head -400
	cp "$out" /tmp/sherd-test.log && echo "whole output: /tmp/sherd-test.log"
fi
passed=$(grep -c '^ *--- PASS' "$out")
failed=$(grep -c '^ *--- FAIL' "$out")
skipped=$(grep -c '^ *--- SKIP' "$out")
if [ "$skipped" != 0 ]; then
	echo "NOT TESTED:"
	grep -A2 '^ *--- SKIP' "$out" | grep -v '^--$' | head -40
fi
[ $status != 0 ] && [ "$failed" = 0 ] && failed=1
echo "took $((SECONDS - begin)) s"
echo "$passed passed, $failed failed, $skipped skipped"
exit $status
