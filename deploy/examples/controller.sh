#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A small controller with nothing but curl and jq: keeps the hosts of a file in step with it. See docs/hosts.md, and
# controller/controller.py for one over a generated client.
#
#   controller.sh cluster.json
#
# The file may change at any time:
#
#   { "hosts":   [ { "id": "h1", "address": "192.0.2.1", "via": "" },
#                  { "id": "h2", "address": "192.0.2.2", "via": "ssh root@192.0.2.2" } ],
#     "tenants": { "red": [ ["10.1.0.11", "02:1c:0a:01:00:0b", "h1"] ] } }
#
# "via" is a command that runs another one on the host, "socket" its control socket. It may be killed at any moment:
# hosts go on with what they have, and the next start gives what differs. A later start takes over from one that still
# runs.
set -eu
file=$1
every=${EVERY:-5}

# A number that no earlier start had, on the disk before it is used.
epoch=$(($(cat "$file.epoch" 2>/dev/null || echo 0) + 1))
echo "$epoch" >"$file.epoch.new"
sync "$file.epoch.new"
mv "$file.epoch.new" "$file.epoch"
generation=$((epoch << 32))
given=

ask() { # ask VIA SOCKET METHOD PATH, with the body as input
	# shellcheck disable=SC2086
	$1 curl -s --max-time 30 --unix-socket "$2" -X "$3" "http://ciao$4" -d @-
}

give() { # give VIA SOCKET PATH BODY
	reply=$(echo "$4" | ask "$1" "$2" PUT "$3" || true)
	if [ "$(echo "$reply" | jq -r '(.generation // 0) / 4294967296 | floor')" -gt "$epoch" ] 2>/dev/null; then
		echo "controller: a later one has taken over: $3" >&2
		exit 1
	fi
	echo "$3 $reply"
}

while true; do
	# With another content there is another generation. What is half written is read again.
	if wanted=$(jq -ce . "$file") && [ "$wanted" != "$given" ]; then
		given=$wanted generation=$((generation + 1))
	fi
	hosts=$(echo "$given" | jq -c --argjson g "$generation" '{ generation: $g, hosts: [.hosts[] | del(.via, .socket)] }')
	count=$(echo "$given" | jq '.hosts | length')
	n=0
	while [ "$n" -lt "$count" ]; do
		via=$(echo "$given" | jq -r ".hosts[$n].via // \"\"")
		socket=$(echo "$given" | jq -r ".hosts[$n].socket // \"/run/ciao/control.sock\"")
		n=$((n + 1))
		known=$(ask "$via" "$socket" GET /v1/hosts </dev/null | jq .generation) || continue
		[ "$known" = "$generation" ] || give "$via" "$socket" /v1/hosts "$hosts"
		here=$(ask "$via" "$socket" GET /v1/remotes </dev/null | jq -c 'map({ (.tenant): .generation }) | add // {}') || continue
		# A tenant that the file has no more is emptied.
		for tenant in $(echo "$given" | jq -r --argjson here "$here" '.tenants + $here | keys[]'); do
			[ "$(echo "$here" | jq --arg t "$tenant" '.[$t]')" = "$generation" ] && continue
			body=$(echo "$given" | jq -c --arg t "$tenant" --argjson g "$generation" '{ generation: $g, remotes: (.tenants[$t] // []) }')
			give "$via" "$socket" "/v1/tenants/$tenant/remotes" "$body"
		done
	done
	sleep "$every"
done
