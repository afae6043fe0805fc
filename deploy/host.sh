# SPDX-License-Identifier: Apache-2.0
# What installing and removing ciao share, for sh: install.sh and uninstall.sh read it, and the package's maintainer
# scripts begin with it. Sourcing it does nothing.

CIAO_SERVICES="ciao-ipam.service ciao-net.service"
CIAO_SOCKETS="ciao-ipam.socket ciao-net.socket"
CIAO_DATABASE=/var/lib/ciao

note() { echo "ciao: $*" >&2; }

systemd_runs() { [ -d /run/systemd/system ]; }

# The group of launchers. A member can use the control socket.
add_group() {
	getent group ciao >/dev/null || groupadd --system ciao
	# A socket that an earlier version opened stays open over an upgrade, and so does its database.
	[ ! -S /run/ciao/control.sock ] || chgrp ciao /run/ciao/control.sock
	[ ! -d "$CIAO_DATABASE" ] || chgrp -R ciao "$CIAO_DATABASE"
}

# Removes the group unless somebody is in it.
remove_group() {
	group=$(getent group ciao) || return 0
	if [ -n "${group##*:}" ]; then
		note "left: group ciao, with members ${group##*:}"
	elif command -v groupdel >/dev/null; then
		groupdel ciao
	fi
}

# raise_limits FILE: sets what a sysctl file says, where the kernel has less. At boot systemd does the rest.
raise_limits() {
	sed -n 's/^\([a-z0-9_.]*\) *= *\([0-9]*\)$/\1 \2/p' "$1" | while read -r key value; do
		path=/proc/sys/$(echo "$key" | tr . /)
		[ -w "$path" ] && [ "$(cat "$path")" -lt "$value" ] || continue
		# Read-only in a container: the host's own limits are not the package's then.
		echo "$value" 2>/dev/null >"$path" || note "$key stays $(cat "$path"): it cannot be changed here"
	done
}

# NetworkManager and systemd-networkd read what concerns ciao's links before there are any; udev does so by itself.
reload_link_settings() {
	systemd_runs || return 0
	for unit in NetworkManager systemd-networkd; do
		! systemctl --quiet is-active "$unit" || systemctl reload "$unit" || note "reload $unit failed"
	done
}

# The unit files of the first "make install" (any prefix) as sha256 sums, one a line.
former_units() {
	cat <<-'SUMS'
		3455efb0173abc4e21182cde84f10067f6ed68b406a61b5d1d13711474af2c62
		3180de7663540a0f417b001cd889fcf9c9cc5be35e73138f5c77c5fdb9e2c9a4
		f6f9d5b8536a11840493757a0c16666dab32431953915bf505c79886954d31d4
		3537ee4c8636319cac87b9fbf0ddc2285b445750e450cc7a6ecc2ea76c039fe2
		dc301ad2be4a4e1e300659de197eca01ba861365e3f6656ee8751bf0a361e1e7
		6b0cd4ca4e0fa94334b8b8e378f639f0e5dd6b8df9c7ff7a6440b695ea89ccb9
	SUMS
}

# The first "make install" put its units into /etc/systemd/system, where they would hide newer ones. Removes them,
# except what an administrator changed, which stays and goes first. Prints the files that stay.
remove_former_units() {
	for unit in $CIAO_SERVICES $CIAO_SOCKETS; do
		file=/etc/systemd/system/$unit
		[ -f "$file" ] && [ ! -L "$file" ] || continue
		sum=$(sed 's|^ExecStart=.*/bin/|ExecStart=@PREFIX@/bin/|' "$file" | sha256sum)
		if former_units | grep -qx "${sum%% *}"; then
			rm -f "$file"
		else
			note "kept: $file, which was changed and goes before the new unit: move its options to /etc/default/${unit%.*}, then remove it"
			echo "$file"
		fi
	done
}

# remove_listed PREFIX: removes the files that install.sh put below a prefix, and its record of them. In /etc it removes
# what nobody changed, and nothing at all for the package, which takes those files over.
remove_listed() {
	record=$1/share/ciao
	[ -f "$record/files" ] || return 0
	while read -r file; do
		case $file in
		/etc/*)
			if [ -n "${DPKG_MAINTSCRIPT_NAME:-}" ]; then
				:
			elif cmp -s "$file" "$record$file"; then
				remove_file "$file"
			elif [ -e "$file" ]; then
				note "left: $file, which was changed"
			fi
			remove_file "$record$file"
			;;
		*) remove_file "$file" ;;
		esac
	done <"$record/files"
	remove_file "$record/files"
}

# remove_file FILE: and the folders that become empty by it, but none that a bare system has.
remove_file() {
	rm -f "$1"
	folder=${1%/*}
	while :; do
		case $folder in
		'' | /etc | /opt | /usr | /usr/local | /usr/local/bin | /usr/local/lib | /usr/local/share | /usr/local/share/man | /etc/default) return 0 ;;
		esac
		rmdir "$folder" 2>/dev/null || return 0
		folder=${folder%/*}
	done
}

# Namespaces of tenants, and of networks without a tenant.
our_namespaces() {
	for path in /run/netns/ciao-* /run/netns/ciao.*; do
		[ ! -e "$path" ] || echo "${path##*/}"
	done
}

# Links of ciao in the host's namespace: uplinks, and VNICs that no container has.
our_links() {
	for path in /sys/class/net/*; do
		link=${path##*/}
		case $link in cu* | cv* | hv*) ;; *) continue ;; esac
		case ${link#??} in *[!0-9a-f]*) ;; ??????????) echo "$link" ;; esac
	done
}

# VNICs whose link a container has: the end on the bridge is there, the other one not in the host's namespace.
used_vnics() {
	command -v ip >/dev/null || return 0
	for namespace in $(our_namespaces); do
		for link in $(ip -n "$namespace" -o link 2>/dev/null | sed -n 's/^[0-9]*: \(hv[0-9a-f]*\)@.*/\1/p'); do
			[ -e "/sys/class/net/cv${link#hv}" ] || echo "${link#hv}"
		done
	done
}

# What stays on the host when the programs go; nothing if there is none.
say_what_stays() {
	if command -v docker >/dev/null && networks=$(docker network ls -f driver=ciao-net --format '{{.Name}}' 2>/dev/null) && [ -n "$networks" ]; then
		note "left: Docker networks" $networks
		note "  their containers keep running; Docker can remove networks and containers of ciao-net only while ciao-net runs"
	fi
	if vnics=$(ciao-net vnic list 2>/dev/null) && [ "$(echo "$vnics" | wc -l)" -gt 1 ]; then
		note "left: VNICs, with their links:"
		echo "$vnics" | head -n 20 >&2
	fi
	namespaces=$(our_namespaces)
	[ -z "$namespaces" ] || note "left: network namespaces" $namespaces
	[ ! -e "$CIAO_DATABASE/ciao.db" ] || note "left: the database in $CIAO_DATABASE"
}

# restore_host [--remove-vnics]: puts back what ciao-net changed of the host, once the daemons have ended, and says what
# of it stays and why. While namespaces or links of ciao's stay, their rules do, and the settings that they need.
restore_host() {
	[ -e "$CIAO_DATABASE/ciao.db" ] && command -v ciao-net >/dev/null || return 0
	ciao-net host restore "$@" | sed 's/^/ciao: /' >&2
}

# Takes away what ciao made in the kernel, unless containers still use it, and the database.
purge_host() {
	used=$(used_vnics)
	if [ -n "$used" ]; then
		note "left: namespaces, links and rules, because containers still use VNICs" $used "(gone after a reboot)"
	else
		for namespace in $(our_namespaces); do
			umount "/run/netns/$namespace" 2>/dev/null || true
			rm -f "/run/netns/$namespace"
		done
		# The uplinks go with the namespaces, in the background.
		for link in $(our_links); do ip link delete "$link" 2>/dev/null || true; done
		! command -v nft >/dev/null || nft delete table inet ciao 2>/dev/null || true
		for tool in iptables ip6tables; do
			$tool -n -L CIAO-FORWARD >/dev/null 2>&1 || continue
			while $tool -D FORWARD -j CIAO-FORWARD 2>/dev/null; do :; done
			$tool -F CIAO-FORWARD && $tool -X CIAO-FORWARD || true
		done
	fi
	if [ -d "$CIAO_DATABASE" ]; then
		# It may be a disk of its own, which stays.
		note "removed: the database in $CIAO_DATABASE"
		find "$CIAO_DATABASE" -xdev -mindepth 1 -delete
		rmdir "$CIAO_DATABASE" 2>/dev/null || note "left: the empty folder $CIAO_DATABASE"
	fi
	rmdir /run/netns 2>/dev/null || true
}
