#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The whole job, in a private Docker host: two tenants with the same subnet, the same addresses and the same MAC
# addresses at the same time. Run it with `make demo`.
set -eu

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
show() { # show COMMAND…: as one would type it
	printf '\033[36m$'
	for word; do
		case $word in
		*[!A-Za-z0-9_./:=,-]*) printf " '%s'" "$word" ;;
		*) printf ' %s' "$word" ;;
		esac
	done
	printf '\033[0m\n'
}
run() {
	show "$@"
	"$@"
}
refused() { # refused COMMAND…: it must fail
	show "$@"
	if "$@"; then
		echo "demo: that should have failed" >&2
		exit 1
	fi
}
ping1() { run docker exec "$1" ping -c 1 -W 1 "$2"; }

say "Two tenants, red and blue: a VNIC, a Docker network if there is none yet, a container. Addresses and MACs are the same."
for tenant in red blue; do
	for n in 2 3; do
		run ciao-net launch --tenant $tenant --instance i$n --subnet 192.168.111.0/24 --ip 192.168.111.$n \
			--mac 02:00:c0:a8:6f:0$n busybox sh -c "echo \$HOSTNAME >index.html; exec httpd -f"
	done
done

say "What a container sees: its MAC address, its address, its route, and no other interface."
run docker exec red.i2 ip -o link
run docker exec red.i2 ip -4 -o addr show eth0
run docker exec red.i2 ip route

say "Within a tenant: the neighbour and the gateway answer."
ping1 red.i3 192.168.111.2
ping1 blue.i3 192.168.111.2
ping1 red.i3 192.168.111.1

say "The same address is another container in each tenant: each web server returns its hostname."
red=$(docker exec red.i3 wget -qO- http://192.168.111.2/)
blue=$(docker exec blue.i3 wget -qO- http://192.168.111.2/)
echo "from red.i3: $red, from blue.i3: $blue"
[ "$red" = "$(docker inspect -f '{{slice .Id 0 12}}' red.i2)" ] && [ "$blue" = "$(docker inspect -f '{{slice .Id 0 12}}' blue.i2)" ]

say "When red's 192.168.111.2 stops, the address does not answer in red; blue's still runs."
run docker stop -t 0 red.i2
refused docker exec red.i3 ping -c 1 -W 1 192.168.111.2
ping1 blue.i3 192.168.111.2

say "The VNIC of the stopped container stays: it is the launcher's. The container comes back with it."
run ciao-net vnic list --tenant red
run docker start red.i2
ping1 red.i3 192.168.111.2

say "The same by hand: no tenant anywhere, two networks with one subnet, and Docker's two commands."
run docker network create -d ciao-net --ipam-driver ciao-ipam --subnet=192.168.111.0/24 --gateway=192.168.111.1 --opt bridge=br1 n1
run docker network create -d ciao-net --ipam-driver ciao-ipam --subnet=192.168.111.0/24 --gateway=192.168.111.1 --opt bridge=br2 n2
for n in 1 2; do
	run docker run -d --name by-hand-$n --net=n$n --ip=192.168.111.2 --mac-address=02:00:c0:a8:6f:02 busybox sleep 600
	ping1 by-hand-$n 192.168.111.1
done

say "What is recorded, as an administrator sees it."
run sqlite3 -box /var/lib/ciao/ciao.db 'SELECT tenant, subnet, address, state, instance, substr(endpoint, 1, 12) AS endpoint, substr(network, 1, 12) AS network FROM lease'
run sqlite3 -box /var/lib/ciao/ciao.db 'SELECT id, owner, tenant, instance, address, mac, bridge, namespace, substr(endpoint, 1, 12) AS endpoint FROM vnic'
run sqlite3 -box /var/lib/ciao/ciao.db 'SELECT tenant, subnets, gateways, bridge, namespace, egress, endpoints, substr(network, 1, 12) AS network FROM network'

say "And its end: nothing is left."
for tenant in red blue; do
	for n in 2 3; do run ciao-net terminate i$n --tenant $tenant; done
done
run docker rm -f by-hand-1 by-hand-2
run docker network rm n1 n2
run ip netns list
[ -z "$(ip netns list)" ] && [ "$(sqlite3 /var/lib/ciao/ciao.db 'SELECT count(*) FROM lease')" = 0 ]
say "Done."
