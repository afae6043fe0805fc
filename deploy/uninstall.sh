#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Takes the plugins from this machine: uninstall.sh [--purge]. Again: the same. Without --purge the database and what
# launchers have stay, and it says so; with it nothing stays.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/host.sh"
PREFIX=${PREFIX:-/usr/local}
case ${1:-} in
'' | --purge) ;;
*)
	echo "usage: uninstall.sh [--purge]" >&2
	exit 2
	;;
esac

if command -v docker >/dev/null && networks=$(docker network ls -q -f driver=ciao-net 2>/dev/null) && [ -n "$networks" ]; then
	echo "uninstall: Docker still has networks of driver ciao-net: remove them first:" >&2
	docker network ls -f driver=ciao-net >&2
	exit 1
fi
[ "${1:-}" = --purge ] || list_leftovers
if systemd_runs; then
	for unit in $CIAO_SERVICES $CIAO_SOCKETS; do
		! systemctl --quiet cat "$unit" >/dev/null 2>&1 || systemctl --quiet disable --now "$unit"
	done
fi
if [ -e "$CIAO_DATABASE/ciao.db" ] && command -v ciao-net >/dev/null; then
	# The programs stay if it fails: nothing else could restore the host.
	restore_host ciao-net host restore $([ "${1:-}" != --purge ] || echo --remove-vnics)
fi
remove_former_units >/dev/null
remove_listed "$PREFIX"
# Of a version that kept no list.
for program in ciao-net ciao-ipam; do
	rm -f "$PREFIX/bin/$program"
	if cmp -s "/etc/docker/plugins/$program.spec" "$here/$program.spec"; then remove_file "/etc/docker/plugins/$program.spec"; fi
done
if systemd_runs; then systemctl daemon-reload; fi
rm -rf /run/ciao
if [ "${1:-}" = --purge ]; then
	purge_host
	remove_group
fi
echo "uninstalled"
