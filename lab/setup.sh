#!/usr/bin/env bash
# Installs what the lab needs from Debian's packages: the runtimes, compilers for C and Java, for victims and what an
# attack loads. Does nothing where all is there. Needs root and Debian 12 or a system with the same packages.
set -euo pipefail
packages=(containerd runc docker.io podman iproute2 etcd-server containernetworking-plugins gcc libc6-dev openjdk-17-jdk-headless ca-certificates)
export PATH=$PATH:/usr/sbin:/sbin
missing=no
for program in containerd ctr runc dockerd docker podman conmon ip etcd gcc javac dpkg-deb apt-get; do
	command -v "$program" >/dev/null || missing=yes
done
[ "$missing" = no ] && exit 0
if [ "$(id -u)" != 0 ]; then
	echo "lab/setup.sh: installing ${packages[*]} needs root" >&2
	exit 1
fi
echo "lab: installing ${packages[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
# Java's packages want it, and slim systems lack it.
mkdir -p /usr/share/man/man1
# The packages would start daemons on the machine's default sockets; the lab starts its own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq >&2
apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
