#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the two managed plugins for Docker, ciao-net and ciao-ipam, from programs of this machine: `make plugin`. With
# "stage" only their folders, in target/package/plugin, for "docker plugin create NAME FOLDER" elsewhere.
#
# BINARIES is another folder of the two programs than target/release.
set -eu
cd "$(dirname "$0")/../.."
out=target/package/plugin

# libraries ROOTFS FILE: what it is linked to, at their own paths.
libraries() {
	for library in $(ldd "$2" 2>/dev/null | sed -n 's/^.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) .*/\1/p'); do
		[ -e "$1$library" ] || install -D "$library" "$1$library"
	done
}

# program ROOTFS NAME: a program of the machine's, which may be a link to one of many names.
program() {
	path=$(PATH="/usr/sbin:/usr/bin" command -v "$2") || {
		echo "plugin: there is no $2 here: install the packages nftables and iptables" >&2
		exit 1
	}
	file=$(readlink -f "$path")
	[ -e "$1$file" ] || install -D "$file" "$1$file"
	libraries "$1" "$file"
	[ -e "$1$path" ] || ln -s "$file" "$1$path"
}

stage() {
	folder=$out/$1
	rm -rf "$folder"
	mkdir -p "$folder"
	cp "deploy/plugin/$1.json" "$folder/config.json"
	root=$PWD/$folder/rootfs
	mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64" "$root/run" "$root/tmp" "$root/var/lib/ciao" \
		"$root/host/run" "$root/propagated" "$root/etc" "$root/proc" "$root/sys" "$root/dev"
	for link in bin sbin lib lib64; do ln -s "usr/$link" "$root/$link"; done
	# What is made there is the host's.
	ln -s /host/run/netns "$root/run/netns"
	ln -s /host/run/ciao "$root/run/ciao"
	# What stands behind the stub of /etc/resolv.conf, which Docker mounts.
	ln -s /host/run/systemd "$root/run/systemd"
	install deploy/plugin/entrypoint "$root/entrypoint"
	program "$root" sh
	for name in $2; do program "$root" "$name"; done
	install "${BINARIES:-target/release}/$1" "$root/usr/bin/$1"
	libraries "$root" "$root/usr/bin/$1"
	strip --strip-unneeded "$root/usr/bin/$1"
}

stage ciao-ipam ""
stage ciao-net "mount mkdir nft iptables ip6tables iptables-restore ip6tables-restore"
# nft reads names of protocols there.
install -m 644 /etc/protocols "$out/ciao-net/rootfs/etc/protocols"
# iptables loads its matches and targets.
for module in /usr/lib/*/xtables/*.so; do
	install -D "$module" "$out/ciao-net/rootfs$module"
	libraries "$PWD/$out/ciao-net/rootfs" "$module"
done
[ "${1:-}" != stage ] || exit 0
mkdir -p /var/lib/ciao
for name in ciao-ipam ciao-net; do
	docker plugin create "$name" "$out/$name"
	[ "$name" != ciao-net ] || docker plugin set "$name" swarm.source="$(docker info -f '{{.DockerRootDir}}')/swarm"
	docker plugin enable "$name"
done
