-- SPDX-License-Identifier: Apache-2.0
-- Version 4. Whatever is new here is in schema.sql too.

-- Written and never read.
DROP TABLE peer;

-- State 'going' is 'deleting'.
CREATE TABLE vnic_new (
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
INSERT INTO vnic_new (id, owner, state, tenant, network, instance, subnet, address, subnet6, address6, mac, gateway, mtu, namespace, bridge,
    allowed, rate, network_name, container_link, host_link, created)
SELECT id, owner, iif(state = 'going', 'deleting', state), tenant, network, instance, subnet, address, subnet6, address6, mac, gateway, mtu, namespace, bridge,
    allowed, rate, network_name, container_link, host_link, created FROM vnic_record;
DROP TABLE vnic_record;
ALTER TABLE vnic_new RENAME TO vnic_record;
CREATE UNIQUE INDEX vnic_by_address ON vnic_record (tenant, subnet, address) WHERE owner = 'launcher' AND state = 'live';
CREATE UNIQUE INDEX vnic_by_address6 ON vnic_record (tenant, subnet6, address6) WHERE owner = 'launcher' AND state = 'live';
CREATE INDEX vnic_by_mac ON vnic_record (namespace, bridge, mac);
CREATE INDEX vnic_by_instance ON vnic_record (instance);
CREATE INDEX vnic_by_network ON vnic_record (network);
CREATE INDEX vnic_by_state ON vnic_record (state) WHERE state = 'deleting';

-- A pool is known by the address space that it was last requested in; several pools of a tenant may be alike, since
-- one that was requested without the tenant is merged into its set; and a leader's set may wait for its requests.
CREATE TABLE pool_record_4 (
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
INSERT INTO pool_record_4 (id, pool_id, set_id, sub_pool, serial, cursor, refs, created, requested)
    SELECT id, pool_id, set_id, sub_pool, serial, cursor, refs, created, requested FROM pool_record;
INSERT OR REPLACE INTO sqlite_sequence (name, seq) SELECT 'pool_record_4', seq FROM sqlite_sequence WHERE name = 'pool_record';
DROP TABLE pool_record;
ALTER TABLE pool_record_4 RENAME TO pool_record;
CREATE INDEX pool_by_set ON pool_record (set_id, sub_pool, serial);

-- Of global sets: the leadership that they are of, the one that last asked for them, and how far a new leader is in
-- restoring them.
ALTER TABLE pool_set ADD COLUMN term INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pool_set ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pool_set ADD COLUMN restoring INTEGER;  -- since when; NULL: not
ALTER TABLE pool_set ADD COLUMN confirmed INTEGER NOT NULL DEFAULT 0 CHECK (confirmed IN (0, 1));  -- 1: a lease was asked for again
-- 1: made again from a PoolID, so who has which address is not known until ciao-net reconcile --docker.
ALTER TABLE pool_set ADD COLUMN incomplete INTEGER NOT NULL DEFAULT 0 CHECK (incomplete IN (0, 1));
DROP INDEX pool_set_by_place;
CREATE INDEX pool_set_by_place ON pool_set (scope, tenant, length(last), last);
CREATE INDEX pool_set_by_end ON pool_set (scope, length(last), last);
CREATE INDEX pool_set_by_subnet ON pool_set (scope, subnet);

-- Of a global set: the leadership that granted it.
ALTER TABLE address_record ADD COLUMN term INTEGER NOT NULL DEFAULT 0;

-- The PoolID that the network's subnet was requested with.
ALTER TABLE network_subnet ADD COLUMN pool TEXT;
UPDATE network_subnet SET pool = (SELECT min(p.pool_id) FROM pool_record p WHERE p.set_id = network_subnet.set_id HAVING count(*) = 1);
CREATE INDEX network_subnet_by_pool ON network_subnet (pool);

-- Since when a container was seen to have the endpoint's link; NULL: it is still under way.
ALTER TABLE endpoint_record ADD COLUMN attached INTEGER;

-- The subnets that the host itself routes, as ciao-net last saw them: no pool is chosen there.
CREATE TABLE host_route (
    subnet TEXT PRIMARY KEY,
    first  BLOB NOT NULL,            -- key of its lowest address
    last   BLOB NOT NULL             -- key of its highest address
) STRICT, WITHOUT ROWID;
CREATE INDEX host_route_by_end ON host_route (length(last), last);

-- What ciao-net changed of the host's own settings, shown by `ciao-net host show`, put back by `ciao-net host restore`.
CREATE TABLE host_setting (
    name    TEXT PRIMARY KEY,        -- as sysctl or iptables take it: net.ipv4.ip_forward, iptables -P FORWARD
    before  TEXT NOT NULL,
    after   TEXT NOT NULL,
    boot    TEXT NOT NULL,           -- the kernel's boot_id: nothing of it is left after another boot
    changed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Subnets that a network's containers reach although --egress-deny has them, a JSON list.
ALTER TABLE network_record ADD COLUMN egress_allow TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(egress_allow));

-- What wrote this file put its rules into the chains of the host's firewall.
INSERT INTO setting (name, value) VALUES ('former_rules', '1');
