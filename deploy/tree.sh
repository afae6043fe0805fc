#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Lays out everything that is installed below a folder: tree.sh BINARIES MANUAL ROOT PREFIX
#
# BINARIES has the two programs, MANUAL what ciao-manual wrote. ROOT is the folder, PREFIX /usr for the package and
# /usr/local for anything else.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
binaries=$1 manual=$2 root=$3 prefix=$4

# Where systemd, udev and the kernel's settings are looked for does not depend on the prefix.
lib=/usr/local/lib
functions=site-functions
if [ "$prefix" = /usr ]; then lib=/usr/lib functions=vendor-completions; fi

put() { install -D -m "$1" "$2" "$root$3"; } # put MODE FROM TO

for program in ciao-net ciao-ipam; do
	put 755 "$binaries/$program" "$prefix/bin/$program"
	put 644 "$here/$program.spec" "/etc/docker/plugins/$program.spec"
	put 644 "$here/default/$program" "/etc/default/$program"
	put 644 "$here/$program.socket" "$lib/systemd/system/$program.socket"
	put 644 "$here/$program.service" "$lib/systemd/system/$program.service"
	sed -i "s|@PREFIX@|$prefix|" "$root$lib/systemd/system/$program.service"
	put 644 "$manual/bash-completion/completions/$program" "$prefix/share/bash-completion/completions/$program"
	put 644 "$manual/zsh/vendor-completions/_$program" "$prefix/share/zsh/$functions/_$program"
	put 644 "$manual/fish/vendor_completions.d/$program.fish" "$prefix/share/fish/vendor_completions.d/$program.fish"
done
for page in "$manual"/man/man8/*; do put 644 "$page" "$prefix/share/man/man8/${page##*/}"; done
# Early: so that the administrator's own files go before them.
put 644 "$here/host/sysctl.conf" "$lib/sysctl.d/10-ciao.conf"
put 644 "$here/host/links.link" "$lib/systemd/network/70-ciao.link"
put 644 "$here/host/links.network" "$lib/systemd/network/10-ciao.network"
put 644 "$here/host/links.rules" "$lib/udev/rules.d/70-ciao.rules"
sh "$here/documentation.sh" "$root$prefix/share/doc/ciao"
