#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what is needed and this machine lacks, as Debian packages. A daemon that comes with a package is not started.
#
# deps.sh build    to build: a C compiler, for SQLite
# deps.sh test     to run the demo and the tests, too: a Docker Engine among others
# deps.sh bench    what the measurements compare with, too
set -eu

if ! command -v cargo >/dev/null; then
	echo "deps: there is no cargo: install Rust 1.89 or newer from https://rustup.rs, then try again" >&2
	exit 1
fi

missing=
need() { # need COMMAND PACKAGE
	command -v "$1" >/dev/null || missing="$missing $2"
}
PATH="$PATH:/usr/sbin:/sbin"
for_tests() {
	need dockerd docker.io
	need iptables iptables
	need ip iproute2
	need busybox busybox-static
	need sqlite3 sqlite3
	need sysctl procps
	need curl curl
	need jq jq
	need ping iputils-ping
	need mkfs.ext4 e2fsprogs
	need debootstrap debootstrap
	need nft nftables
	[ -e /etc/protocols ] || missing="$missing netbase"
	need systemd-socket-activate systemd
	need docker-compose docker-compose
}
# A linker needs the C library's files too, which gcc only recommends.
echo 'int main(void) { return 0; }' | cc -x c -o /dev/null - 2>/dev/null || missing="$missing gcc libc6-dev"
need strip binutils
case ${1:-} in
build) ;;
test) for_tests ;;
bench)
	for_tests
	need /usr/lib/cni/host-local containernetworking-plugins
	need valgrind valgrind
	;;
*)
	echo "usage: deps.sh build|test|bench" >&2
	exit 2
	;;
esac
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
	echo "deps: these packages are missing:$missing: install them, or run as root on Debian" >&2
	exit 1
fi
echo "deps: installing$missing"
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi
log=$(mktemp)
install() {
	DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"
}
# Since Debian 13 the command line is a package of its own.
install_all() {
	apt-get update -q && install $missing || return
	[ "$1" = build ] || command -v docker >/dev/null || install docker-cli
}
if ! install_all "$1" >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	echo "deps: apt-get failed, see $log" >&2
	exit 1
fi
rm -f "$log"
