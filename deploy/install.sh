#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Puts the plugins onto this machine: install.sh [BINARIES [MANUAL]], below PREFIX (/usr/local). Again: the same. What
# an administrator changed or removed in /etc stays so; the database is never touched.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/host.sh"
binaries=${1:-$here/../bin}
manual=${2:-$here/../share}
PREFIX=${PREFIX:-/usr/local}

if command -v dpkg-query >/dev/null && dpkg-query -W -f '${db:Status-Status}' ciao 2>/dev/null | grep -qx installed; then
	echo "install: the Debian package ciao is installed here: upgrade that one, or remove it first (apt remove ciao)" >&2
	exit 1
fi

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
sh "$here/tree.sh" "$binaries" "$manual" "$tree" "$PREFIX"

record=$PREFIX/share/ciao
(cd "$tree" && find . -type f | sed 's|^\.||' | sort) >"$tree.files"
trap 'rm -rf "$tree" "$tree.files"' EXIT
while read -r file; do
	case $file in
	/etc/*)
		# As dpkg does with its conffiles: an unchanged one is renewed, one that was removed stays away.
		if [ ! -e "$record$file" ] && [ ! -e "$file" ] || cmp -s "$file" "$record$file"; then
			install -D -m 644 "$tree$file" "$file"
		elif [ -e "$file" ] && ! cmp -s "$file" "$tree$file"; then
			note "kept: $file, which was changed; the new one is $record$file"
		fi
		install -D -m 644 "$tree$file" "$record$file"
		;;
	*)
		# Beside it and then over it: a program that runs cannot be written to.
		mkdir -p "${file%/*}"
		cp -p "$tree$file" "$file.new"
		mv -f "$file.new" "$file"
		;;
	esac
done <"$tree.files"
# What an earlier version had and this one has not, goes.
if [ -f "$record/files" ]; then
	grep -vxFf "$tree.files" "$record/files" | while read -r file; do
		case $file in /etc/*) ;; *) remove_file "$file" ;; esac
	done
fi
install -D -m 644 "$tree.files" "$record/files"

add_group
remove_former_units >/dev/null
if systemd_runs; then
	systemctl daemon-reload
	reload_link_settings
	systemctl --quiet enable $CIAO_SOCKETS $CIAO_SERVICES
	# Starts them, or lets new programs take over; their sockets stay, so that no call is refused meanwhile.
	systemctl restart $CIAO_SERVICES
	echo "installed: dockerd finds the plugins at their first use, it needs no restart"
else
	echo "installed, but systemd does not run here: start \"ciao-ipam serve\" and \"ciao-net serve\" before dockerd"
fi
