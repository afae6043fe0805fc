#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Tests of the control APIs, in a network namespace of their own: see tests/README.md. CIAO_BIN_DIR has the daemons,
# TOOLS the programs of requirements.txt.
set -eu
[ "${1:-}" = inside ] || exec unshare --net --mount sh "$0" inside
here=$(dirname "$(realpath "$0")")
ip link set lo up
export PATH="$TOOLS/bin:$PATH" PYTHONPATH="$TOOLS/clients:$here"
cd "$here"

python3 fuzzed.py

# Clients of the documents that the daemons serve.
rm -rf "$TOOLS/clients"
mkdir "$TOOLS/clients"
python3 documents.py "$TOOLS/clients"
for name in ciao_client ciao_ipam_client; do
	openapi-python-client generate --path "$TOOLS/clients/$name.json" --output-path "$TOOLS/clients/$name" --meta none
done
python3 client.py
python3 controlled.py
