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

# Lists what stays on the host when the programs go.
list_leftovers() {
	if command -v docker >/dev/null && networks=$(docker network ls -f driver=ciao-net --format '{{.Name}}' 2>/dev/null) && [ -n "$networks" ]; then
		note "left: Docker networks" $networks
		note "  their containers keep running; Docker can remove networks and containers of ciao-net only while ciao-net runs"
	fi
	if vnics=$(ciao-net vnic list 2>/dev/null) && [ "$(echo "$vnics" | wc -l)" -gt 1 ]; then
		note "left: VNICs, with their links:"
		echo "$vnics" | head -n 20 >&2
	fi
	[ ! -e "$CIAO_DATABASE/ciao.db" ] || note "left: the database in $CIAO_DATABASE"
}

# restore_host COMMAND...: puts back what ciao-net changed of the host, once the daemons have ended, and says
# what of it stays and why. While namespaces or links of ciao's stay, their rules do, and the settings that they need.
# $restored becomes 0, 3 if something stays, or another number if it failed.
restore_host() {
	restored=0
	list=$("$@" 2>&1) || restored=$?
	echo "$list" | sed 's/^/ciao: /' >&2
	[ "$restored" = 0 ] || [ "$restored" = 3 ]
}

# Keeps the program beside the database if something stays on the host, or could not be restored: a purge comes after
# the package's files are gone. What was there by that name is not trusted.
keep_program() {
	rm -rf "$CIAO_DATABASE/ciao-net"
	[ "$restored" = 0 ] || cp -p "$(command -v ciao-net)" "$CIAO_DATABASE/ciao-net"
}

# Takes away what a removal kept, unless containers still use it, and the database.
purge_host() {
	if [ -e "$CIAO_DATABASE/ciao-net" ]; then
		restore_host "$CIAO_DATABASE/ciao-net" host restore --remove-vnics ||
			note "left: what ciao made in the kernel, until the next reboot"
	fi
	rm -rf /run/ciao
	if [ -d "$CIAO_DATABASE" ]; then
		# It may be a disk of its own, which stays.
		note "removed: the database in $CIAO_DATABASE"
		find "$CIAO_DATABASE" -xdev -mindepth 1 -delete
		rmdir "$CIAO_DATABASE" 2>/dev/null || note "left: the empty folder $CIAO_DATABASE"
	fi
	rmdir /run/netns 2>/dev/null || true
}
