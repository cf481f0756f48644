#!/usr/bin/env bash
# Installs what the build, the tests and the demo need on a Debian machine, and nothing where it is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/go.sh >/dev/null

need=()
want() { # want PROGRAM PACKAGE
	command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || need+=("$2")
}
want git git
want gcc gcc
want javac openjdk-17-jdk-headless
want g++ g++
want make make
want tar tar
want zstd zstd
want python3 python3
want gdb gdb
want containerd containerd
want runc runc
want dockerd docker.io
want podman podman
want ip iproute2
want etcd etcd-server
want iptables iptables
want fusermount3 fuse3
want chromium chromium
want pdftotext poppler-utils
want setcap libcap2-bin
want setfattr attr
want jq jq
want mactime sleuthkit
want pkg-config pkg-config
want yara yara
[ -e /usr/include/stdio.h ] || need+=(libc6-dev)
header() { # header FILE PACKAGE
	[ -e "/usr/include/$1" ] || need+=("$2")
}
# libyara and what it needs where it is linked statically.
header yara.h libyara-dev
header jansson.h libjansson-dev
header magic.h libmagic-dev
header lzma.h liblzma-dev
header bzlib.h libbz2-dev
header zlib.h zlib1g-dev
header openssl/evp.h libssl-dev
# runc, which the lab compiles for pods in user namespaces.
header seccomp.h libseccomp-dev
# criu, which the lab compiles for its cluster's checkpoints.
want protoc protobuf-compiler
want protoc-c protobuf-c-compiler
header protobuf-c/protobuf-c.h libprotobuf-c-dev
header google/protobuf/descriptor.proto libprotobuf-dev
header libnl3/netlink/netlink.h libnl-3-dev
header libnet.h libnet1-dev
header sys/capability.h libcap-dev
header bsd/string.h libbsd-dev
header uuid/uuid.h uuid-dev
[ -e /usr/lib/cni/bridge ] || need+=(containernetworking-plugins)
[ -e /usr/lib/python3/dist-packages/venv ] || python3 -c "import ensurepip" 2>/dev/null || need+=(python3-venv)
[ -e /etc/ssl/certs/ca-certificates.crt ] || need+=(ca-certificates)

if [ ${#need[@]} -gt 0 ]; then
	if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
		echo "setup: missing: ${need[*]}; install them, or run as root on Debian" >&2
		exit 1
	fi
	echo "setup: installing ${need[*]}" >&2
	export DEBIAN_FRONTEND=noninteractive
	# Java's packages want it, and slim systems lack it.
	mkdir -p /usr/share/man/man1
	log=$(mktemp)
	# Packages that bring daemons would start them; the lab starts its own, on private roots.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' >$policy
		chmod +x $policy
		trap 'rm -f $policy' EXIT
	fi
	if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${need[@]}"; } >"$log" 2>&1; then
		tail -20 "$log" >&2
		exit 1
	fi
	rm -f "$log"
fi
