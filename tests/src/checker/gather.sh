# SPDX-License-Identifier: Apache-2.0
# Prints everything that the checker compares, as one JSON object: ciao's tables, Docker's lists, the kernel's links.
rows() {
    found=$(sqlite3 -readonly -json /var/lib/ciao/ciao.db "$2")
    printf '"%s":%s,\n' "$1" "${found:-[]}"
}
# A namespace or a container may go while it is looked at: then it has no links.
links() {
    found=$("$@" 2>/dev/null) || found=
    printf '%s' "${found:-[]}"
}
inspect() {
    kind=$1
    shift
    if [ $# = 0 ]; then echo '[]'; else docker "$kind" inspect "$@" 2>/dev/null || true; fi
}

echo '{'
rows sets 'SELECT id, tenant, subnet, scope FROM pool_set'
rows pools 'SELECT s.tenant, s.subnet, p.sub_pool, p.refs FROM pool_record p JOIN pool_set s ON s.id = p.set_id'
rows addresses 'SELECT set_id, address, hex(key) AS key, kind, held FROM address_record ORDER BY set_id, key'
rows ranges 'SELECT set_id, hex(first) AS first, hex(last) AS last FROM free_range ORDER BY set_id, last'
rows bounds 'SELECT id, hex(first) AS first, hex(last) AS last FROM pool_set'
rows networks 'SELECT id, tenant, namespace, bridge, egress FROM network_record'
rows subnets 'SELECT network, subnet, gateway, set_id FROM network_subnet'
rows vnics 'SELECT id, owner, state, tenant, network, subnet, address, subnet6, address6, mac, namespace, bridge, container_link, host_link FROM vnic_record'
rows endpoints 'SELECT id, network, vnic, address, address6 FROM endpoint_record'
rows uplinks 'SELECT namespace, host_link FROM uplink_record'
rows ports 'SELECT protocol, host_port, endpoint, namespace FROM port_record'
printf '"docker_networks":'
inspect network $(docker network ls -q --no-trunc)
printf ',"docker_containers":'
inspect container $(docker ps -aq --no-trunc)
printf ',"host_links":'
links ip -j link
printf ',"host_rules":'
links nft -j list table inet ciao
printf ',"namespaces":{'
comma=
for name in $(ip netns list | cut -d' ' -f1 | grep '^ciao[-.]' || true); do
    printf '%s"%s":{"links":' "$comma" "$name"
    links ip -n "$name" -j link
    printf ',"macs":'
    links ip netns exec "$name" nft -j list set bridge ciao macs
    printf '}'
    comma=,
done
printf '},"inside":{'
comma=
for process in $(docker inspect -f '{{.Id}}/{{.State.Pid}}' $(docker ps -q --no-trunc) 2>/dev/null || true); do
    printf '%s"%s":' "$comma" "${process%/*}"
    links nsenter -t "${process#*/}" -n ip -j link
    comma=,
done
echo '}}'
