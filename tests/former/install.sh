#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Puts the plugins onto this machine: install.sh FOLDER-OF-BINARIES. Again: the same. What an administrator changed in
# /etc is left; the database is never touched.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
binaries=${1:?"usage: install.sh FOLDER-OF-BINARIES"}
PREFIX=${PREFIX:-/usr/local}

for program in ciao-net ciao-ipam; do
	install -D -m 755 "$binaries/$program" "$PREFIX/bin/$program"
	install -D -m 644 "$here/$program.spec" "/etc/docker/plugins/$program.spec"
done
install -d -m 750 /var/lib/ciao

if [ -d /run/systemd/system ]; then
	for program in ciao-net ciao-ipam; do
		sed "s|@PREFIX@|$PREFIX|" "$here/$program.service" >"/etc/systemd/system/$program.service"
		install -m 644 "$here/$program.socket" /etc/systemd/system/
	done
	systemctl daemon-reload
	systemctl enable --now ciao-ipam.socket ciao-net.socket ciao-ipam.service ciao-net.service
	# A new binary takes over; the sockets stay, so that no call is refused meanwhile.
	systemctl restart ciao-ipam.service ciao-net.service
	echo "installed: dockerd finds the plugins at their first use, it needs no restart"
else
	echo "installed, but systemd does not run here: start \"ciao-ipam serve\" and \"ciao-net serve\" before dockerd"
fi
