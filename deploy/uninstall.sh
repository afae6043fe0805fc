#!/bin/sh
# Takes the plugins from this machine. Again: the same. The database stays: remove /var/lib/ciao by hand.
set -eu
PREFIX=${PREFIX:-/usr/local}

if command -v docker >/dev/null && networks=$(docker network ls -q -f driver=ciao-net 2>/dev/null) && [ -n "$networks" ]; then
	echo "uninstall: Docker still has networks of driver ciao-net: remove them first:" >&2
	docker network ls -f driver=ciao-net >&2
	exit 1
fi
if [ -d /run/systemd/system ]; then
	for program in ciao-net ciao-ipam; do
		if [ -e "/etc/systemd/system/$program.service" ]; then
			systemctl disable --now "$program.service" "$program.socket"
			rm -f "/etc/systemd/system/$program.service" "/etc/systemd/system/$program.socket"
		fi
	done
	systemctl daemon-reload
fi
for program in ciao-net ciao-ipam; do
	rm -f "$PREFIX/bin/$program" "/etc/docker/plugins/$program.spec"
done
echo "uninstalled: the database stays in /var/lib/ciao"
