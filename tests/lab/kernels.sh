#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the driver's tests on the kernels of other Debian releases, in virtual machines: kernels.sh TEST-BINARY SUITE…
#
# Each machine is a kernel from Debian, with this machine's own nft, ip and busybox in memory, emulated: a minute
# or two for each. Needs qemu-system-x86, cpio, kmod, and root.
set -eu
binary=$1
shift
cache=/var/cache/ciao-lab/kernels
for program in qemu-system-x86_64 cpio depmod; do
	command -v $program >/dev/null || { echo "kernels: no $program: apt-get install qemu-system-x86 cpio kmod" >&2; exit 1; }
done

# The newest kernel for clouds of a Debian release, unpacked into a folder.
fetch() { # fetch SUITE
	dir=$cache/$1
	[ ! -e "$dir/kernel/boot" ] || return 0
	mkdir -p "$dir/lists/partial" "$dir/archives/partial" "$dir/kernel"
	keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	printf 'deb [signed-by=%s] http://deb.debian.org/debian %s main\n' $keyring "$1" >"$dir/sources.list"
	set -- -q -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$dir/lists" \
		-o Dir::Cache="$dir" -o APT::Sandbox::User=root
	apt-get "$@" update >/dev/null
	package=$(apt-cache "$@" depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
	(cd "$dir" && apt-get "$@" download "$package" >/dev/null && dpkg-deb -x "$package"_*.deb kernel && rm "$package"_*.deb)
}

# A program with the libraries that it loads.
put() { # put ROOT FILE PLACE
	install -D "$(readlink -f "$2")" "$1$3"
	for library in $(ldd "$2" 2>/dev/null | grep -o '/[^ ]*'); do
		[ -e "$1$library" ] || install -D "$(readlink -f "$library")" "$1$library"
	done
}

image() { # image KERNEL-FOLDER OUTPUT
	root=$(mktemp -d)
	mkdir -p "$root/usr/bin" "$root/usr/lib" "$root/usr/lib64" "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/tmp" "$root/etc"
	ln -s usr/bin "$root/bin"
	ln -s usr/bin "$root/sbin"
	ln -s usr/lib "$root/lib"
	ln -s usr/lib64 "$root/lib64"
	cp /etc/protocols /etc/services "$root/etc"
	put "$root" "$(command -v busybox)" /usr/bin/busybox
	for applet in sh mount cat sleep ping sysctl timeout uname poweroff; do ln -s busybox "$root/usr/bin/$applet"; done
	for program in nft ip unshare tc bridge iptables ip6tables nsenter bash curl jq; do put "$root" "$(command -v $program)" "/usr/bin/$program"; done
	put "$root" "$(command -v kmod)" /usr/bin/modprobe
	put "$root" "$binary" /test
	[ ! -d /usr/lib/x86_64-linux-gnu/xtables ] || cp -r /usr/lib/x86_64-linux-gnu/xtables "$root/usr/lib/x86_64-linux-gnu/"
	from=$(echo "$1"/lib/modules/* "$1"/usr/lib/modules/* | tr ' ' '\n' | grep -v '\*')
	modules=$root/usr/lib/modules/${from##*/}
	mkdir -p "$modules/kernel/drivers"
	cp -r "$from/kernel/net" "$from/kernel/lib" "$modules/kernel"
	cp -r "$from/kernel/drivers/net" "$modules/kernel/drivers"
	cp "$from"/modules.builtin* "$from/modules.order" "$modules"
	depmod -b "$root" "${from##*/}"
	cat >"$root/init" <<-'END'
		#!/bin/sh
		export PATH=/usr/bin HOME=/
		mount -t proc proc /proc
		mount -t sysfs sys /sys
		mount -t devtmpfs dev /dev
		mount -t tmpfs tmp /tmp
		mount -t tmpfs run /run
		ip link set lo up
		echo "kernel $(uname -r)"
		/test --test-threads=1 2>&1
		echo "ended with $?"
		poweroff -f
	END
	chmod 755 "$root/init"
	(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$2"
	rm -rf "$root"
}

failed=
for suite; do
	fetch "$suite"
	image "$cache/$suite/kernel" "$cache/$suite/image"
	log=$cache/$suite/log
	timeout 900 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 -nographic -no-reboot \
		-kernel "$cache/$suite"/kernel/boot/vmlinuz-* -initrd "$cache/$suite/image" \
		-append "console=ttyS0 panic=-1 quiet" </dev/null >"$log" 2>&1 || true
	grep -a -o -e 'kernel [0-9].*' -e 'test result: [^;]*; [^;]*' "$log" | tail -n 1 | sed "s/^/$suite: $(grep -a -o 'kernel [0-9][^[:space:]]*' "$log" | head -n 1): /"
	grep -a -q 'ended with 0' "$log" || failed="$failed $suite"
done
[ -z "$failed" ] || { echo "kernels: failed on$failed: see $cache/SUITE/log" >&2; exit 1; }
