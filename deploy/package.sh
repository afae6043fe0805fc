#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the Debian package and the archive with static programs, in target/package: `make package`.
#
# For tests: VERSION is another version of the package than the workspace's, BINARIES another folder of the programs in
# it than target/release, FAST anything for less compression.
set -eu
cd "$(dirname "$0")/.."
CARGO=${CARGO:-cargo}
out=target/package
export CIAO_COMMIT="${CIAO_COMMIT-$(git rev-parse --short=12 HEAD 2>/dev/null || true)}"
maintainer="${DEBFULLNAME:-The ciao developers} <${DEBEMAIL:-ciao@localhost}>"
version=${VERSION:-$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)}

debian() {
	rm -rf "$out/root" "$out/debian"
	sh deploy/tree.sh "${BINARIES:-target/release}" "$out/manual" "$out/root" /usr
	strip --strip-unneeded "$out/root/usr/bin/"*
	install -m 644 deploy/debian/copyright "$out/root/usr/share/doc/ciao/copyright"
	mkdir "$out/debian"
	for script in postinst prerm postrm; do
		# With the functions in it: when the package is purged, no file of it is left.
		{
			printf '#!/bin/sh\nset -eu\n\n'
			cat deploy/host.sh
			printf '\n'
			cat "deploy/debian/$script"
		} >"$out/debian/$script"
	done
	cat >"$out/changelog" <<-CHANGELOG
		ciao ($version-1) stable; urgency=medium

		  * See /usr/share/doc/ciao/CHANGELOG.md.

		 -- $maintainer  $(date -R -d "@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}")
	CHANGELOG
	PATH="$PWD/target/tools/bin:$PATH" $CARGO deb ${FAST:+--fast} --quiet --no-build --no-strip -p ciao-package --maintainer "$maintainer" --deb-version "$version-1" --output "$out/"
}

# The C library is in the programs: they resolve no names and load nothing, so that works for the GNU one too.
static() {
	target=$(rustc -vV | sed -n 's/^host: //p')
	RUSTFLAGS="-C target-feature=+crt-static" $CARGO build --release --locked --target "$target" -p ciao-netdriver -p ciao-ipam
	name=ciao-$version-${target%%-*}-linux
	rm -rf "$out/$name"
	mkdir -p "$out/$name/bin"
	cp "target/$target/release/ciao-net" "target/$target/release/ciao-ipam" "$out/$name/bin"
	strip --strip-unneeded "$out/$name/bin/"*
	cp -r "$out/manual" "$out/$name/share"
	cp -r deploy "$out/$name"
	sh deploy/documentation.sh "$out/$name"
	rm -rf "$out/$name/deploy/package" "$out/$name/deploy/debian" "$out/$name/deploy/deps.sh" "$out/$name/deploy/package.sh"
	tar -C "$out" --owner=0 --group=0 --sort=name -czf "$out/$name.tar.gz" "$name"
	rm -rf "${out:?}/$name"
}

case ${1:-all} in
all)
	debian
	static
	;;
debian | static) "$1" ;;
esac
find "$out" -maxdepth 1 \( -name "*.deb" -o -name "*.tar.gz" \) -exec ls -l {} +
