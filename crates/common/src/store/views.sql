-- SPDX-License-Identifier: Apache-2.0
-- Views for people and for the lists of the command line. They are made again with each new version.

CREATE VIEW pool AS
SELECT s.tenant, s.subnet, p.sub_pool, s.scope AS space,
       (SELECT group_concat(n.network, ' ') FROM network_subnet n WHERE n.set_id = s.id) AS networks, p.refs,
       (SELECT count(*) FROM address_record a WHERE a.set_id = s.id AND a.pool = p.id) AS leases,
       p.pool_id, strftime('%Y-%m-%dT%H:%M:%SZ', p.created / 1000, 'unixepoch') AS created
FROM pool_record p JOIN pool_set s ON s.id = p.set_id
ORDER BY s.tenant, s.first, p.sub_pool;

-- The addresses that ciao-ipam has recorded. This view and the next two are each in the order of an index, so that a
-- page of a list costs what its rows cost.
CREATE VIEW recorded_lease AS
SELECT tenant, subnet, address,
       CASE WHEN former THEN 'former' WHEN kind = 'gateway' THEN 'gateway' WHEN kind = 'reserved' THEN 'reserved' WHEN endpoint IS NOT NULL THEN 'bound'
            WHEN aux THEN 'aux' WHEN network IS NOT NULL THEN 'pending' ELSE 'granted' END AS state,
       (SELECT v.instance FROM vnic_record v WHERE v.id = vnic) AS instance, endpoint, network, scope AS space,
       strftime('%Y-%m-%dT%H:%M:%SZ', iif(kind = 'reserved', coalesce((SELECT v.created FROM vnic_record v WHERE v.id = vnic), granted), granted) / 1000, 'unixepoch') AS since,
       set_id, key
FROM (
    SELECT h.*,
           EXISTS (SELECT 1 FROM network_subnet w, json_each(w.aux) x WHERE w.set_id = h.set_id AND x.value = h.address) AS aux,
           coalesce((SELECT e.id FROM network_subnet w JOIN endpoint_record e ON e.network = w.network AND e.address = h.address WHERE w.set_id = h.set_id),
                    (SELECT e.id FROM network_subnet w JOIN endpoint_record e ON e.network = w.network AND e.address6 = h.address WHERE w.set_id = h.set_id)) AS endpoint,
           coalesce((SELECT v.id FROM vnic_record v WHERE v.owner = 'launcher' AND v.state = 'live' AND v.tenant = h.tenant AND v.subnet = h.subnet AND v.address = h.address),
                    (SELECT v.id FROM vnic_record v WHERE v.owner = 'launcher' AND v.state = 'live' AND v.tenant = h.tenant AND v.subnet6 = h.subnet AND v.address6 = h.address)) AS vnic
    FROM (
        SELECT s.id AS set_id, s.scope, s.subnet, a.key, a.address, a.kind, a.granted, a.term < s.term AS former,
               coalesce(s.tenant, (SELECT n.tenant FROM network_subnet w JOIN network_record n ON n.id = w.network WHERE w.set_id = s.id LIMIT 1)) AS tenant,
               (SELECT w.network FROM network_subnet w WHERE w.set_id = s.id LIMIT 1) AS network
        FROM pool_set s CROSS JOIN address_record a ON a.set_id = s.id
    ) h
);

-- Those of launchers' VNICs, by IPv4 and by IPv6. ciao-ipam may have recorded some of them, too.
CREATE VIEW vnic_lease AS
SELECT v.tenant, v.subnet, v.address, 'reserved' AS state, v.instance, NULL AS endpoint,
       (SELECT n.id FROM network_record n JOIN network_subnet s ON s.network = n.id WHERE n.tenant = v.tenant AND s.subnet = v.subnet LIMIT 1) AS network,
       'local' AS space, strftime('%Y-%m-%dT%H:%M:%SZ', v.created / 1000, 'unixepoch') AS since
FROM vnic_record v WHERE v.owner = 'launcher' AND v.state = 'live';
CREATE VIEW vnic_lease6 AS
SELECT v.tenant, v.subnet6 AS subnet, v.address6 AS address, 'reserved' AS state, v.instance, NULL AS endpoint,
       (SELECT n.id FROM network_record n JOIN network_subnet s ON s.network = n.id WHERE n.tenant = v.tenant AND s.subnet = v.subnet6 LIMIT 1) AS network,
       'local' AS space, strftime('%Y-%m-%dT%H:%M:%SZ', v.created / 1000, 'unixepoch') AS since
FROM vnic_record v WHERE v.owner = 'launcher' AND v.state = 'live' AND v.address6 IS NOT NULL;

-- Every address that is granted or reserved for an instance. state:
--   gateway   a network's gateway            aux      --aux-address of a network
--   pending   granted, no endpoint yet       bound    an endpoint of ciao-net has it
--   granted   granted to another network driver's endpoint, which is not recorded here
--   reserved  a launcher's VNIC has it and no container runs on it
--   former    granted under an earlier leadership of a swarm and not requested again since
CREATE VIEW lease AS
WITH recorded AS MATERIALIZED (SELECT * FROM recorded_lease),
     reserved AS (SELECT * FROM vnic_lease UNION ALL SELECT * FROM vnic_lease6)
SELECT tenant, subnet, address, state, instance, endpoint, network, space, since FROM recorded
UNION ALL
SELECT * FROM reserved v WHERE NOT EXISTS (
    SELECT 1 FROM recorded r WHERE r.space = 'local' AND r.tenant = v.tenant AND r.subnet = v.subnet AND r.address = v.address);

CREATE VIEW network AS
SELECT n.tenant, (SELECT group_concat(ns.subnet, ' ') FROM network_subnet ns WHERE ns.network = n.id) AS subnets,
       (SELECT group_concat(ns.gateway, ' ') FROM network_subnet ns WHERE ns.network = n.id) AS gateways,
       n.bridge, coalesce(n.namespace, '(host)') AS namespace,
       iif(n.remote, 'other hosts', 'docker') AS source,
       CASE WHEN n.namespace IS NULL THEN 'none: the host''s bridge' WHEN n.secured THEN 'on' ELSE 'port_security=off' END AS isolation,
       n.egress, (SELECT group_concat(value, ' ') FROM json_each(n.host_access)) AS host_access, n.mtu, n.vnics,
       (SELECT count(*) FROM endpoint_record e WHERE e.network = n.id) AS endpoints,
       n.id AS network, strftime('%Y-%m-%dT%H:%M:%SZ', n.created / 1000, 'unixepoch') AS created
FROM network_record n
ORDER BY n.tenant, n.created;

CREATE VIEW endpoint AS
SELECT n.tenant, v.instance, e.address, e.address6, v.mac, v.id AS vnic,
       e.network AS network, e.id AS endpoint, strftime('%Y-%m-%dT%H:%M:%SZ', e.created / 1000, 'unixepoch') AS created
FROM endpoint_record e LEFT JOIN network_record n ON n.id = e.network LEFT JOIN vnic_record v ON v.id = e.vnic
ORDER BY n.tenant, e.network, e.created;

CREATE VIEW vnic AS
SELECT v.id, v.owner, v.tenant, v.instance, v.address, v.address6, v.mac, v.rate, v.bridge, coalesce(v.namespace, '(host)') AS namespace,
       v.container_link, v.host_link, v.state, e.id AS endpoint, strftime('%Y-%m-%dT%H:%M:%SZ', v.created / 1000, 'unixepoch') AS created
FROM vnic_record v LEFT JOIN endpoint_record e ON e.vnic = v.id
ORDER BY v.tenant, v.bridge, v.created;

CREATE VIEW port AS
SELECT n.tenant, p.protocol, p.host_address, p.host_port, p.address, p.container_port, v.instance, e.network, p.endpoint AS endpoint
FROM port_record p JOIN endpoint_record e ON e.id = p.endpoint
     LEFT JOIN network_record n ON n.id = e.network LEFT JOIN vnic_record v ON v.id = e.vnic
ORDER BY p.host_port, p.protocol, p.host_address;

-- Addresses of tenants on other hosts, and on this one as the controller gives them; source: the controller, or the
-- host itself. ciao-net remote show TENANT lists those that another host says and this one refuses.
CREATE VIEW remote AS
SELECT r.tenant, r.address, r.mac, r.host, h.address AS host_address, r.source
FROM (SELECT tenant, key, address, mac, host, 'controller' AS source FROM remote_record
      UNION ALL SELECT tenant, key, address, mac, host, 'host' FROM peer_record WHERE mac NOT LIKE '0e:c1:a0:%') r
     LEFT JOIN cluster_host h ON h.id = r.host
ORDER BY r.tenant, r.key, r.source, r.host;

-- Networks over several hosts; remotes: of the tenant, on whichever host.
CREATE VIEW tunnel AS
SELECT n.tenant, t.vni, (SELECT group_concat(s.subnet, ' ') FROM network_subnet s WHERE s.network = n.id) AS subnets, n.bridge, n.mtu,
       (SELECT count(*) FROM remote r WHERE r.tenant = n.tenant) AS remotes, n.id AS network
FROM tunnel_record t JOIN network_record n ON n.id = t.network
ORDER BY n.tenant, t.vni;

-- Whoever has a network, a VNIC or a pool, with the numbers of what it has.
CREATE VIEW tenant AS
SELECT tenant, (SELECT count(*) FROM network_record n WHERE n.tenant = t.tenant) AS networks,
       (SELECT count(*) FROM vnic_record v
        WHERE v.tenant = t.tenant AND v.owner = 'launcher' AND v.state = 'live') AS vnics,
       (SELECT count(*) FROM network_record n JOIN endpoint_record e ON e.network = n.id
        WHERE n.tenant = t.tenant) AS endpoints,
       (SELECT count(*) FROM network_record n JOIN endpoint_record e ON e.network = n.id
        JOIN port_record p ON p.endpoint = e.id WHERE n.tenant = t.tenant) AS ports,
       (SELECT count(*) FROM pool_set s JOIN address_record a ON a.set_id = s.id WHERE s.tenant = t.tenant) AS leases
FROM (SELECT tenant FROM network_record UNION SELECT tenant FROM vnic_record WHERE state = 'live'
      UNION SELECT tenant FROM pool_set) t
WHERE tenant IS NOT NULL ORDER BY tenant;
