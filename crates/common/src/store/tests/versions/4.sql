-- A file of version 4 with rows in every table, as sqlite3 dumps it.
PRAGMA application_id = 1667850607;
PRAGMA user_version = 4;
CREATE TABLE address_record (
    set_id  INTEGER NOT NULL REFERENCES pool_set (id) ON DELETE CASCADE,
    key     BLOB NOT NULL,
    address TEXT NOT NULL,
    pool    INTEGER,                 -- pool_record.id it was granted through; NULL: not granted, kept for a reservation
    kind    TEXT NOT NULL CHECK (kind IN ('lease', 'gateway', 'reserved')),
    held    INTEGER NOT NULL CHECK (held >= 0),  -- how often it was granted and not released
    granted INTEGER NOT NULL, unclaimed INTEGER, term INTEGER NOT NULL DEFAULT 0,        -- when last
    PRIMARY KEY (set_id, key),
    CHECK ((kind = 'reserved') = (held = 0)),
    CHECK ((pool IS NULL) = (held = 0)),
    CHECK (kind = 'gateway' OR held <= 1)
) STRICT, WITHOUT ROWID;
INSERT INTO "address_record" VALUES(1,X'0A050001','10.5.0.1',1,'gateway',2,1700000002000,NULL,0);
INSERT INTO "address_record" VALUES(1,X'0A050002','10.5.0.2',1,'lease',1,1700000002000,NULL,0);
INSERT INTO "address_record" VALUES(1,X'0A050003','10.5.0.3',1,'lease',1,1700000002000,1700000003000,0);
INSERT INTO "address_record" VALUES(1,X'0A050004','10.5.0.4',NULL,'reserved',0,1700000002000,NULL,0);
INSERT INTO "address_record" VALUES(2,X'FD000005000000000000000000000001','fd00:5::1',2,'gateway',1,1700000002000,NULL,0);
INSERT INTO "address_record" VALUES(2,X'FD000005000000000000000000000002','fd00:5::2',2,'lease',1,1700000002000,NULL,0);
INSERT INTO "address_record" VALUES(5,X'0A090001','10.9.0.1',7,'lease',1,1700000002000,NULL,0);
CREATE TABLE endpoint_record (
    id       TEXT PRIMARY KEY,       -- Docker's EndpointID
    network  TEXT NOT NULL,          -- network_record.id
    vnic     TEXT NOT NULL UNIQUE,   -- vnic_record.id
    address  TEXT,
    address6 TEXT,
    created  INTEGER NOT NULL
, attached INTEGER) STRICT, WITHOUT ROWID;
INSERT INTO "endpoint_record" VALUES('e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1','9bcbf369d2afaa304dbbf7bfcf342d419bcbf369d2afaa304dbbf7bfcf342d41','0a1b2c3d4e','10.5.0.2','fd00:5::2',1700000010000,NULL);
INSERT INTO "endpoint_record" VALUES('e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2','1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f','3a1b2c3d4e',NULL,NULL,1700000011000,NULL);
CREATE TABLE free_range (
    set_id INTEGER NOT NULL REFERENCES pool_set (id) ON DELETE CASCADE,
    last   BLOB NOT NULL,
    first  BLOB NOT NULL,
    PRIMARY KEY (set_id, last),
    CHECK (first <= last)
) STRICT, WITHOUT ROWID;
INSERT INTO "free_range" VALUES(1,X'0A050000',X'0A050000');
INSERT INTO "free_range" VALUES(1,X'0A050007',X'0A050005');
INSERT INTO "free_range" VALUES(2,X'FD000005000000000000000000000000',X'FD000005000000000000000000000000');
INSERT INTO "free_range" VALUES(2,X'FD000005000000000000000000000003',X'FD000005000000000000000000000003');
INSERT INTO "free_range" VALUES(5,X'0A090000',X'0A090000');
INSERT INTO "free_range" VALUES(5,X'0A090003',X'0A090002');
CREATE TABLE host_route (
    subnet TEXT PRIMARY KEY,
    first  BLOB NOT NULL,            -- key of its lowest address
    last   BLOB NOT NULL             -- key of its highest address
) STRICT, WITHOUT ROWID;
INSERT INTO "host_route" VALUES('192.0.2.0/24',X'C0000200',X'C00002FF');
CREATE TABLE host_setting (
    name    TEXT PRIMARY KEY,        -- as sysctl or iptables take it: net.ipv4.ip_forward, iptables -P FORWARD
    before  TEXT NOT NULL,
    after   TEXT NOT NULL,
    boot    TEXT NOT NULL,           -- the kernel's boot_id: nothing of it is left after another boot
    changed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "host_setting" VALUES('net/ipv4/ip_forward','0','1','3f0b5f7e-7f3e-4a59-9d5a-0d7c2f8e1a11',1700000012000);
CREATE TABLE network_record (
    id         TEXT PRIMARY KEY,     -- Docker's NetworkID
    tenant     TEXT,                 -- NULL: a network of its own
    namespace  TEXT,                 -- network namespace of its bridge; NULL: the host's, a bridge that is not ours
    bridge     TEXT NOT NULL,
    mtu        INTEGER CHECK (mtu BETWEEN 68 AND 65535),
    egress     TEXT NOT NULL CHECK (egress IN ('nat', 'gateway', 'docker', 'none')),
    vnics      TEXT NOT NULL CHECK (vnics IN ('auto', 'required')),
    dst_prefix TEXT NOT NULL,        -- of the container's interface name
    egress6    TEXT NOT NULL CHECK (egress6 IN ('nat', 'route', 'none')),  -- how IPv6 leaves, if egress is nat
    secured    INTEGER NOT NULL CHECK (secured IN (0, 1)),  -- port_security: containers send with their own addresses only
    icc        INTEGER NOT NULL CHECK (icc IN (0, 1)),      -- its containers reach each other
    options    TEXT NOT NULL CHECK (json_valid(options)),  -- the user's, and what else CreateNetwork said, to know it again
    created    INTEGER NOT NULL
, egress_allow TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(egress_allow))) STRICT, WITHOUT ROWID;
INSERT INTO "network_record" VALUES('1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f',NULL,NULL,'br1',NULL,'gateway','required','net','none',0,0,'[]',1700000005000,'[]');
INSERT INTO "network_record" VALUES('9bcbf369d2afaa304dbbf7bfcf342d419bcbf369d2afaa304dbbf7bfcf342d41','acme','ciao-acme','br-a1b2c3',1400,'nat','auto','eth','route',1,1,'[[["mtu","1400"]],[]]',1700000004000,'[]');
CREATE TABLE network_route (
    network     TEXT NOT NULL REFERENCES network_record (id) ON DELETE CASCADE,
    destination TEXT NOT NULL,
    next_hop    TEXT,                -- NULL: the link itself
    PRIMARY KEY (network, destination)
) STRICT, WITHOUT ROWID;
INSERT INTO "network_route" VALUES('9bcbf369d2afaa304dbbf7bfcf342d419bcbf369d2afaa304dbbf7bfcf342d41','10.0.0.0/8','10.5.0.6');
INSERT INTO "network_route" VALUES('9bcbf369d2afaa304dbbf7bfcf342d419bcbf369d2afaa304dbbf7bfcf342d41','10.8.0.0/16',NULL);
CREATE TABLE network_subnet (
    network TEXT NOT NULL REFERENCES network_record (id) ON DELETE CASCADE,
    subnet  TEXT NOT NULL,
    gateway TEXT,                    -- bare address
    aux     TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(aux)),  -- --aux-address, bare
    set_id  INTEGER, pool TEXT,                 -- pool_set.id at ciao-ipam; NULL: another IPAM driver's
    PRIMARY KEY (network, subnet)
) STRICT, WITHOUT ROWID;
INSERT INTO "network_subnet" VALUES('1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f','192.168.7.0/24',NULL,'[]',NULL,NULL);
INSERT INTO "network_subnet" VALUES('9bcbf369d2afaa304dbbf7bfcf342d419bcbf369d2afaa304dbbf7bfcf342d41','10.5.0.0/29','10.5.0.1','["10.5.0.3"]',1,'4b1f0c2d3e4f5a6b7c8d9e0f');
INSERT INTO "network_subnet" VALUES('9bcbf369d2afaa304dbbf7bfcf342d419bcbf369d2afaa304dbbf7bfcf342d41','fd00:5::/126','fd00:5::1','[]',2,'5c1f0c2d3e4f5a6b7c8d9e0f');
CREATE TABLE "pool_record" (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    pool_id   TEXT NOT NULL UNIQUE,  -- Docker's PoolID; lost-…: Docker has one that is not known
    set_id    INTEGER NOT NULL REFERENCES pool_set (id) ON DELETE CASCADE,
    sub_pool  TEXT NOT NULL DEFAULT '',  -- where dynamic addresses come from, '' = the whole subnet
    serial    INTEGER NOT NULL DEFAULT 0 CHECK (serial IN (0, 1)),  -- 1: the next address, not the lowest free one
    cursor    BLOB,                  -- key of the last address given in serial mode
    refs      INTEGER NOT NULL DEFAULT 1 CHECK (refs >= 0),  -- RequestPool less ReleasePool; 0: nobody's since a new leader
    former    INTEGER NOT NULL DEFAULT 0 CHECK (former >= 0),  -- refs of before a new leader restored the set
    nonce     TEXT NOT NULL DEFAULT '',  -- of the local address space that it was last requested in
    created   INTEGER NOT NULL,
    requested INTEGER NOT NULL DEFAULT 0  -- last; 0: before this was recorded
) STRICT;
INSERT INTO "pool_record" VALUES(1,'4b1f0c2d3e4f5a6b7c8d9e0f',1,'',0,NULL,2,0,'',1700000000001,1700000001001);
INSERT INTO "pool_record" VALUES(2,'5c1f0c2d3e4f5a6b7c8d9e0f',2,'',0,NULL,1,0,'',1700000000002,1700000001002);
INSERT INTO "pool_record" VALUES(7,'6d1f0c2d3e4f5a6b7c8d9e0f',5,'10.9.0.0/31',1,X'0A090001',1,0,'',1700000000007,1700000001007);
CREATE TABLE pool_set (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    scope   TEXT NOT NULL CHECK (scope IN ('local', 'global')),  -- Docker's address space
    tenant  TEXT,                    -- NULL: named no tenant, a space of its own
    subnet  TEXT NOT NULL,           -- canonical CIDR
    first   BLOB NOT NULL,           -- key of its lowest address
    last    BLOB NOT NULL, term INTEGER NOT NULL DEFAULT 0, asked INTEGER NOT NULL DEFAULT 0, restoring INTEGER, confirmed INTEGER NOT NULL DEFAULT 0 CHECK (confirmed IN (0, 1)), incomplete INTEGER NOT NULL DEFAULT 0 CHECK (incomplete IN (0, 1)),           -- key of its highest address
    UNIQUE (scope, tenant, subnet),  -- NULLs differ: any number of spaces of their own
    CHECK (length(first) = length(last) AND length(first) IN (4, 16) AND first <= last)
) STRICT;
INSERT INTO "pool_set" VALUES(1,'local','acme','10.5.0.0/29',X'0A050000',X'0A050007',0,0,NULL,0,0);
INSERT INTO "pool_set" VALUES(2,'local',NULL,'fd00:5::/126',X'FD000005000000000000000000000000',X'FD000005000000000000000000000003',0,0,NULL,0,0);
INSERT INTO "pool_set" VALUES(5,'global','acme','10.9.0.0/30',X'0A090000',X'0A090003',0,0,NULL,0,0);
CREATE TABLE port_record (
    protocol       TEXT NOT NULL CHECK (protocol IN ('tcp', 'udp', 'sctp')),
    host_address   TEXT NOT NULL,    -- 0.0.0.0 or ::: every one
    host_port      INTEGER NOT NULL CHECK (host_port BETWEEN 1 AND 65535),
    endpoint       TEXT NOT NULL REFERENCES endpoint_record (id) ON DELETE CASCADE,
    namespace      TEXT NOT NULL,    -- the container's tenant's
    address        TEXT NOT NULL,    -- the container's
    container_port INTEGER NOT NULL CHECK (container_port BETWEEN 1 AND 65535),
    PRIMARY KEY (protocol, host_address, host_port)
) STRICT, WITHOUT ROWID;
INSERT INTO "port_record" VALUES('tcp','0.0.0.0',8080,'e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1','ciao-acme','10.5.0.2',80);
INSERT INTO "port_record" VALUES('udp','::',53,'e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1','ciao-acme','fd00:5::2',5353);
CREATE TABLE setting (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "setting" VALUES('compatible','4');
INSERT INTO "setting" VALUES('ula','fd12:3456:789a::/48');
CREATE TABLE uplink_record (
    namespace TEXT PRIMARY KEY,
    number    INTEGER NOT NULL UNIQUE CHECK (number >= 0),
    host_link TEXT NOT NULL UNIQUE   -- the host's end; the other is up0
) STRICT, WITHOUT ROWID;
INSERT INTO "uplink_record" VALUES('ciao-acme',3,'cuacme01');
CREATE TABLE "vnic_record" (
    id             TEXT PRIMARY KEY,
    owner          TEXT NOT NULL CHECK (owner IN ('launcher', 'docker')),  -- who deletes it
    state          TEXT NOT NULL DEFAULT 'live' CHECK (state IN ('live', 'deleting')),  -- deleting: until its links are gone
    tenant         TEXT,             -- NULL: of a network without tenant
    network        TEXT,             -- of Docker's own: the network it was made for
    instance       TEXT,             -- of a launcher's: the instance it belongs to
    subnet         TEXT NOT NULL,    -- '' when it has no address
    address        TEXT,
    subnet6        TEXT,
    address6       TEXT,
    mac            TEXT NOT NULL,
    gateway        TEXT,             -- of a launcher's: for the Docker network
    mtu            INTEGER CHECK (mtu BETWEEN 68 AND 65535),
    namespace      TEXT,             -- NULL: the host's
    bridge         TEXT NOT NULL,
    allowed        TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(allowed)),  -- further addresses it may send with
    rate           TEXT,             -- rate limit per direction, such as 100mbit
    network_name   TEXT,             -- of a launcher's: the Docker network's name
    container_link TEXT NOT NULL UNIQUE,
    host_link      TEXT NOT NULL UNIQUE,
    created        INTEGER NOT NULL,
    CHECK (owner = 'docker' OR (tenant IS NOT NULL AND instance IS NOT NULL AND address IS NOT NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO "vnic_record" VALUES('0a1b2c3d4e','launcher','live','acme',NULL,'db','10.5.0.0/29','10.5.0.2','fd00:5::/126','fd00:5::2','02:00:0a:05:00:02','10.5.0.1',1400,'ciao-acme','br-a1b2c3','["10.5.0.5","fd00:5::3"]','100mbit','acme-10.5.0.0_29','cv0a1b2c3d4e','hv0a1b2c3d4e',1700000006000);
INSERT INTO "vnic_record" VALUES('1a1b2c3d4e','launcher','live','acme',NULL,'web','10.5.0.0/29','10.5.0.4',NULL,NULL,'02:00:0a:05:00:04','10.5.0.1',NULL,'ciao-acme','br-a1b2c3','[]',NULL,'acme-10.5.0.0_29','cv1a1b2c3d4e','hv1a1b2c3d4e',1700000007000);
INSERT INTO "vnic_record" VALUES('2a1b2c3d4e','docker','deleting','acme','9bcbf369d2afaa304dbbf7bfcf342d419bcbf369d2afaa304dbbf7bfcf342d41',NULL,'10.5.0.0/29','10.5.0.3',NULL,NULL,'02:00:0a:05:00:03',NULL,NULL,'ciao-acme','br-a1b2c3','[]',NULL,NULL,'cv2a1b2c3d4e','hv2a1b2c3d4e',1700000008000);
INSERT INTO "vnic_record" VALUES('3a1b2c3d4e','docker','live',NULL,'1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f',NULL,'',NULL,NULL,NULL,'02:00:c0:a8:07:02',NULL,NULL,NULL,'br1','[]',NULL,NULL,'cv3a1b2c3d4e','hv3a1b2c3d4e',1700000009000);
CREATE INDEX address_by_pool ON address_record (pool);
CREATE INDEX address_gateway ON address_record (set_id) WHERE kind = 'gateway';
CREATE INDEX address_kept ON address_record (set_id) WHERE kind = 'reserved';
CREATE INDEX network_by_tenant ON network_record (tenant);
CREATE INDEX network_by_bridge ON network_record (namespace, bridge);
CREATE INDEX network_subnet_by_set ON network_subnet (set_id);
CREATE INDEX network_subnet_by_subnet ON network_subnet (subnet);
CREATE UNIQUE INDEX endpoint_by_address ON endpoint_record (network, address);
CREATE UNIQUE INDEX endpoint_by_address6 ON endpoint_record (network, address6);
CREATE INDEX port_by_endpoint ON port_record (endpoint);
CREATE INDEX port_by_namespace ON port_record (namespace);
CREATE INDEX address_unclaimed ON address_record (set_id, unclaimed) WHERE unclaimed IS NOT NULL;
CREATE UNIQUE INDEX vnic_by_address ON vnic_record (tenant, subnet, address) WHERE owner = 'launcher' AND state = 'live';
CREATE UNIQUE INDEX vnic_by_address6 ON vnic_record (tenant, subnet6, address6) WHERE owner = 'launcher' AND state = 'live';
CREATE INDEX vnic_by_mac ON vnic_record (namespace, bridge, mac);
CREATE INDEX vnic_by_instance ON vnic_record (instance);
CREATE INDEX vnic_by_network ON vnic_record (network);
CREATE INDEX vnic_by_state ON vnic_record (state) WHERE state = 'deleting';
CREATE INDEX pool_by_set ON pool_record (set_id, sub_pool, serial);
CREATE INDEX pool_set_by_place ON pool_set (scope, tenant, length(last), last);
CREATE INDEX pool_set_by_end ON pool_set (scope, length(last), last);
CREATE INDEX pool_set_by_subnet ON pool_set (scope, subnet);
CREATE INDEX network_subnet_by_pool ON network_subnet (pool);
CREATE INDEX host_route_by_end ON host_route (length(last), last);
CREATE VIEW pool AS
SELECT s.tenant, s.subnet, p.sub_pool, s.scope AS space,
       (SELECT group_concat(substr(n.network, 1, 12), ' ') FROM network_subnet n WHERE n.set_id = s.id) AS networks, p.refs,
       (SELECT count(*) FROM address_record a WHERE a.pool = p.id) AS leases,
       p.pool_id, datetime(p.created / 1000, 'unixepoch') AS created
FROM pool_record p JOIN pool_set s ON s.id = p.set_id
ORDER BY s.tenant, s.first, p.sub_pool;
CREATE VIEW lease AS
WITH network_of AS (
    SELECT ns.set_id, ns.network, ns.aux, n.tenant FROM network_subnet ns JOIN network_record n ON n.id = ns.network
), held AS (
    SELECT s.id AS set_id, s.scope, coalesce(s.tenant, (SELECT w.tenant FROM network_of w WHERE w.set_id = s.id LIMIT 1)) AS tenant,
           s.subnet, a.key, a.address, a.kind, a.granted, a.term < s.term AS former,
           EXISTS (SELECT 1 FROM network_of w WHERE w.set_id = s.id) AS known,
           EXISTS (SELECT 1 FROM network_of w, json_each(w.aux) x WHERE w.set_id = s.id AND x.value = a.address) AS aux
    FROM address_record a JOIN pool_set s ON s.id = a.set_id
), joined AS (
    SELECT h.*,
           coalesce((SELECT e.id FROM network_of w JOIN endpoint_record e ON e.network = w.network AND e.address = h.address WHERE w.set_id = h.set_id),
                    (SELECT e.id FROM network_of w JOIN endpoint_record e ON e.network = w.network AND e.address6 = h.address WHERE w.set_id = h.set_id)) AS endpoint,
           coalesce((SELECT v.id FROM vnic_record v WHERE v.owner = 'launcher' AND v.state = 'live' AND v.tenant = h.tenant AND v.subnet = h.subnet AND v.address = h.address),
                    (SELECT v.id FROM vnic_record v WHERE v.owner = 'launcher' AND v.state = 'live' AND v.tenant = h.tenant AND v.subnet6 = h.subnet AND v.address6 = h.address)) AS vnic
    FROM held h
)
SELECT tenant, subnet, address,
       CASE WHEN former THEN 'former' WHEN kind = 'gateway' THEN 'gateway' WHEN kind = 'reserved' THEN 'reserved' WHEN endpoint IS NOT NULL THEN 'bound'
            WHEN aux THEN 'aux' WHEN known THEN 'pending' ELSE 'granted' END AS state,
       (SELECT v.instance FROM vnic_record v WHERE v.id = vnic) AS instance, substr(endpoint, 1, 12) AS endpoint,
       substr((SELECT w.network FROM network_of w WHERE w.set_id = joined.set_id LIMIT 1), 1, 12) AS network, scope AS space,
       datetime(iif(kind = 'reserved', coalesce((SELECT v.created FROM vnic_record v WHERE v.id = vnic), granted), granted) / 1000, 'unixepoch') AS since
FROM joined
UNION ALL
SELECT v.tenant, v.subnet, v.address, 'reserved', v.instance, NULL,
       (SELECT substr(n.id, 1, 12) FROM network_record n JOIN network_subnet s ON s.network = n.id WHERE n.tenant = v.tenant AND s.subnet = v.subnet LIMIT 1), 'local', datetime(v.created / 1000, 'unixepoch')
FROM vnic_record v
WHERE v.owner = 'launcher' AND v.state = 'live'
  AND NOT EXISTS (SELECT 1 FROM held h WHERE h.tenant = v.tenant AND h.subnet = v.subnet AND h.address = v.address AND h.scope = 'local')
UNION ALL
SELECT v.tenant, v.subnet6, v.address6, 'reserved', v.instance, NULL,
       (SELECT substr(n.id, 1, 12) FROM network_record n JOIN network_subnet s ON s.network = n.id WHERE n.tenant = v.tenant AND s.subnet = v.subnet6 LIMIT 1), 'local', datetime(v.created / 1000, 'unixepoch')
FROM vnic_record v
WHERE v.owner = 'launcher' AND v.state = 'live' AND v.address6 IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM held h WHERE h.tenant = v.tenant AND h.subnet = v.subnet6 AND h.address = v.address6 AND h.scope = 'local');
CREATE VIEW network AS
SELECT n.tenant, (SELECT group_concat(ns.subnet, ' ') FROM network_subnet ns WHERE ns.network = n.id) AS subnets,
       (SELECT group_concat(ns.gateway, ' ') FROM network_subnet ns WHERE ns.network = n.id) AS gateways,
       n.bridge, coalesce(n.namespace, '(host)') AS namespace,
       CASE WHEN n.namespace IS NULL THEN 'none: the host''s bridge' WHEN n.secured THEN 'on' ELSE 'port_security=off' END AS isolation,
       n.egress, n.mtu, n.vnics,
       (SELECT count(*) FROM endpoint_record e WHERE e.network = n.id) AS endpoints,
       substr(n.id, 1, 12) AS network, datetime(n.created / 1000, 'unixepoch') AS created
FROM network_record n
ORDER BY n.tenant, n.created;
CREATE VIEW endpoint AS
SELECT n.tenant, v.instance, e.address, e.address6, v.mac, v.id AS vnic,
       substr(e.network, 1, 12) AS network, substr(e.id, 1, 12) AS endpoint, datetime(e.created / 1000, 'unixepoch') AS created
FROM endpoint_record e LEFT JOIN network_record n ON n.id = e.network LEFT JOIN vnic_record v ON v.id = e.vnic
ORDER BY n.tenant, e.network, e.created;
CREATE VIEW vnic AS
SELECT v.id, v.owner, v.tenant, v.instance, v.address, v.address6, v.mac, v.rate, v.bridge, coalesce(v.namespace, '(host)') AS namespace,
       v.container_link, v.host_link, v.state, substr(e.id, 1, 12) AS endpoint, datetime(v.created / 1000, 'unixepoch') AS created
FROM vnic_record v LEFT JOIN endpoint_record e ON e.vnic = v.id
ORDER BY v.tenant, v.bridge, v.created;
CREATE VIEW port AS
SELECT n.tenant, p.protocol, p.host_address, p.host_port, p.address, p.container_port, v.instance, substr(p.endpoint, 1, 12) AS endpoint
FROM port_record p JOIN endpoint_record e ON e.id = p.endpoint
     LEFT JOIN network_record n ON n.id = e.network LEFT JOIN vnic_record v ON v.id = e.vnic
ORDER BY p.host_port, p.protocol, p.host_address;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('pool_set',5);
INSERT INTO "sqlite_sequence" VALUES('pool_record',7);
