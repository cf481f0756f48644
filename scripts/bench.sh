#!/usr/bin/env bash
# Measures Sherd beside what a user would run instead, in one run: times, ratios, peak memory. Needs root. Arguments go to the
# benchmark: "-only timeline", "-quick" and so on.
# varc and plaso come from PyPI into environments of their own, for this comparison alone.
set -euo pipefail
cd "$(dirname "$0")/.."
go=$(scripts/go.sh)
export PATH="$(dirname "$go"):$PATH" # for what the lab and tests compile
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sherd
want() { case " $* " in *" -only "*) return 1 ;; esac; }
wants() { # wants PART ARGUMENTS...: whether PART is measured
	local part=$1 && shift
	want "$@" || case " $* " in *" -only $part "*) ;; *) return 1 ;; esac
}
venv=
if wants core "$@"; then
	venv=$cache/varc
	if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import varc_core' 2>/dev/null; then
		mkdir -p "$cache"
		python3 -m venv "$venv" && "$venv/bin/pip" install -q varc==1.0.9 lz4 || venv=
	fi
fi
plaso=
if wants ingest "$@" || wants timeline "$@"; then
	# Its wheels have the libyal libraries compiled, so it takes half a minute and no compiler.
	plaso=${SHERD_PLASO:-/var/cache/sherd-lab/plaso}
	if [ ! -x "$plaso/bin/log2timeline" ]; then
		mkdir -p "$plaso"
		python3 -m venv "$plaso" && "$plaso/bin/pip" install -q plaso==20260720 || plaso=
	fi
	[ -z "$plaso" ] || "$plaso/bin/log2timeline" --version
fi
if wants lake "$@" || wants timeline "$@"; then
	command -v rg >/dev/null || apt-get install -y -qq --no-install-recommends ripgrep >/dev/null || echo "ripgrep is left out" >&2
	command -v rg >/dev/null && rg --version | head -1
fi
"$go" build -o bin/bench ./lab/cmd/bench
if wants investigate "$@"; then
	"$go" build -o bin/lab ./lab/cmd/lab
	state=$(mktemp)
	trap 'bin/lab demo-down >/dev/null; rm -f "$state"' EXIT
	bin/lab demo -env "$state" >/dev/null
	set -a; . "$state"; set +a
fi
echo "$(nproc) cores, $(free -g | awk '/^Mem/{print $2}') GiB, kernel $(uname -r | cut -d- -f1), gdb $(gdb --version | sed -n '1s/.* //p'), $(zstd --version | grep -o 'v[0-9.]*' | head -1 | sed 's/^/zstd /')"
case " $* " in *" -only sigma "*) ;; *) bin/bench ${venv:+-varc "$venv/bin/python"} ${plaso:+-plaso "$plaso"} "$@" ;; esac
if wants sigma "$@"; then
	# 300 rules of 100,000 events in memory: with the index, and each rule of each event of its log source.
	echo
	"$go" test ./detect/sigma -run '^$' -bench Match -benchtime 3x | grep events/s
fi
