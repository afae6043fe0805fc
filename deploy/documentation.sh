#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copies the documentation for users, and what it links to, into a folder, as it lies in the repository, with links to
# developers' pages as plain text: documentation.sh FOLDER
set -eu
cd "$(dirname "$0")/.."
find README.md CHANGELOG.md SECURITY.md LICENSE docs benches/RESULTS.md benches/results.svg deploy/daemon.json \
	deploy/prometheus deploy/examples -type f | while read -r file; do
	install -D -m 644 "$file" "$1/$file"
	case $file in
	*.md) sed -i -E 's/\[([^]]*)\]\((\.\.\/)*(ARCHITECTURE|CONTRIBUTING)\.md\)/\1/g' "$1/$file" ;;
	esac
done
