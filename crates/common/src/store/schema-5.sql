-- SPDX-License-Identifier: Apache-2.0
-- Version 5. Whatever is new here is in schema.sql too.

-- The hosts of the cluster, this one included, as set by its controller.
CREATE TABLE cluster_host (
    id      TEXT PRIMARY KEY,
    address TEXT NOT NULL UNIQUE,    -- in the network between the hosts
    mtu     INTEGER NOT NULL CHECK (mtu BETWEEN 68 AND 65535),  -- of its link there
    number  INTEGER NOT NULL UNIQUE CHECK (number >= 0)  -- of its nexthop in the kernel
) STRICT, WITHOUT ROWID;

-- A tenant's network over several hosts, by VXLAN.
CREATE TABLE tunnel_record (
    network TEXT PRIMARY KEY REFERENCES network_record (id) ON DELETE CASCADE,
    vni     INTEGER NOT NULL UNIQUE CHECK (vni BETWEEN 1 AND 16777215),
    encrypted INTEGER NOT NULL CHECK (encrypted IN (0, 1)),  -- 1: leads to other hosts over an encrypted link only
    flood   INTEGER NOT NULL CHECK (flood IN (0, 1))  -- 1: broadcast and multicast go to other hosts
) STRICT, WITHOUT ROWID;

-- The host of a tenant's address, as set by the controller. A tenant's subnets do not overlap, so the address
-- determines the subnet. The host may not be in cluster_host yet.
CREATE TABLE remote_record (
    tenant  TEXT NOT NULL,
    key     BLOB NOT NULL,
    address TEXT NOT NULL,
    mac     TEXT NOT NULL,
    host    TEXT NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

-- A subnet of a tenant's networks on all hosts, as set by the controller.
CREATE TABLE tenant_subnet (
    tenant  TEXT NOT NULL,
    subnet  TEXT NOT NULL,
    vni     INTEGER NOT NULL CHECK (vni BETWEEN 1 AND 16777215),
    gateway TEXT NOT NULL,
    mtu     INTEGER CHECK (mtu BETWEEN 68 AND 65535),  -- NULL: what the hosts' links carry
    PRIMARY KEY (tenant, subnet)
) STRICT, WITHOUT ROWID;

-- The hosts by which a tenant's packets leave, as set by the controller: the first one of the cluster.
CREATE TABLE tenant_cnci (
    tenant TEXT NOT NULL,
    rank   INTEGER NOT NULL CHECK (rank >= 0),
    host   TEXT NOT NULL,
    PRIMARY KEY (tenant, rank)
) STRICT, WITHOUT ROWID;

-- An address of a tenant that another host says is on it. Several may say so, as an address moves.
CREATE TABLE peer_record (
    tenant  TEXT NOT NULL,
    key     BLOB NOT NULL,
    host    TEXT NOT NULL,
    address TEXT NOT NULL,
    mac     TEXT NOT NULL,
    subnet  TEXT NOT NULL,           -- of its network there
    vni     INTEGER NOT NULL CHECK (vni BETWEEN 1 AND 16777215),  -- of its network there
    told    INTEGER NOT NULL,        -- orders the claims of an address: the later one holds
    PRIMARY KEY (tenant, key, host)
) STRICT, WITHOUT ROWID;
CREATE INDEX peer_by_host ON peer_record (host);

-- Hosts of the list that are not there, as far as this host knows. Their addresses stay.
CREATE TABLE absent_host (
    host    TEXT NOT NULL,
    why     TEXT NOT NULL CHECK (why IN ('silent', 'gone')),  -- silent: it does not answer; gone: Docker says it left
    since   INTEGER NOT NULL,
    PRIMARY KEY (host, why)
) STRICT, WITHOUT ROWID;

-- The VNI of each network of a swarm, as this node knows them as its leader; Docker keeps them among the networks'
-- options, and a new leader requests them all again.
CREATE TABLE vni_record (
    network   TEXT PRIMARY KEY,      -- Docker's NetworkID; this node may not have the network
    vni       INTEGER NOT NULL UNIQUE CHECK (vni BETWEEN 1 AND 16777215),
    requested INTEGER NOT NULL       -- when AllocateNetwork was last called for it
) STRICT, WITHOUT ROWID;

-- The generation of each list that a controller or another host sent last.
CREATE TABLE generation_record (
    list       TEXT PRIMARY KEY,     -- a tenant: its remotes; '': the hosts; @HOST: a host's own
    generation INTEGER NOT NULL,
    digest     TEXT NOT NULL,        -- of the list, whatever its order
    changed    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Which endpoint had which address and port of the host when, the newest 100,000. Unlike other times, an event's is the
-- host's clock of its moment, so that it can be compared with other logs.
CREATE TABLE endpoint_event (
    id             INTEGER PRIMARY KEY,
    time           INTEGER NOT NULL,
    kind           TEXT NOT NULL CHECK (kind = 'attach' OR kind = 'detach' OR kind = 'publish' OR kind = 'revoke'),
    tenant         TEXT,
    instance       TEXT,
    network        TEXT NOT NULL,
    endpoint       TEXT NOT NULL,
    vnic           TEXT NOT NULL,
    address        TEXT,
    address6       TEXT,
    mac            TEXT,
    protocol       TEXT,             -- this and the following: of a port
    host_address   TEXT,
    host_port      INTEGER,
    container_port INTEGER
) STRICT;

-- ciao-ipam's, of leases that are on no network of ciao-net: those of other network drivers' containers.
CREATE TABLE lease_event (
    id      INTEGER PRIMARY KEY,
    time    INTEGER NOT NULL,
    kind    TEXT NOT NULL CHECK (kind IN ('lease', 'release')),
    tenant  TEXT,
    space   TEXT NOT NULL,
    subnet  TEXT NOT NULL,
    address TEXT NOT NULL
) STRICT;

-- 1: on other hosts alone, and this one routes to it.
ALTER TABLE network_record ADD COLUMN remote INTEGER NOT NULL DEFAULT 0 CHECK (remote IN (0, 1));

-- Its name in the container; NULL: the network's prefix and a number.
ALTER TABLE endpoint_record ADD COLUMN interface TEXT;

-- Its number at the tenant's uplink, where a port of one number at two of the host's addresses is two; NULL: host_port.
ALTER TABLE port_record ADD COLUMN inner_port INTEGER CHECK (inner_port BETWEEN 1 AND 65535);

-- Without the index address_by_pool, which cost each lease a page of the log: only the deletion of a pool used it,
-- which visits its leases anyway. And without a list in a CHECK, of which SQLite makes a table at each grant.
CREATE TABLE address_5 (
    set_id  INTEGER NOT NULL REFERENCES pool_set (id) ON DELETE CASCADE,
    key     BLOB NOT NULL,
    address TEXT NOT NULL,
    pool    INTEGER,                 -- pool_record.id of the grant; NULL: reserved, not granted
    -- No list: SQLite makes a table of one of three at each grant.
    kind    TEXT NOT NULL CHECK (kind = 'lease' OR kind = 'gateway' OR kind = 'reserved'),
    held    INTEGER NOT NULL CHECK (held >= 0),  -- reference count: grants less releases
    granted INTEGER NOT NULL,        -- time of the last grant
    -- Time since which no endpoint uses this lease; NULL: one does, as far as is known. The engine retries for 15
    -- seconds to release the address of a deleted endpoint, and would release the next holder's.
    unclaimed INTEGER,
    term    INTEGER NOT NULL DEFAULT 0,  -- of a global set: the leadership of the grant
    PRIMARY KEY (set_id, key),
    CHECK ((kind = 'reserved') = (held = 0)),
    CHECK ((pool IS NULL) = (held = 0)),
    CHECK (kind = 'gateway' OR held <= 1)
) STRICT, WITHOUT ROWID;
INSERT INTO address_5 (set_id, key, address, pool, kind, held, granted, unclaimed, term) SELECT set_id, key, address, pool, kind, held, granted, unclaimed, term FROM address_record;
DROP TABLE address_record;
ALTER TABLE address_5 RENAME TO address_record;
CREATE INDEX address_gateway ON address_record (set_id) WHERE kind = 'gateway';
CREATE INDEX address_kept ON address_record (set_id) WHERE kind = 'reserved';
CREATE INDEX address_unclaimed ON address_record (set_id, unclaimed) WHERE unclaimed IS NOT NULL;

-- Ports of the host's own services that its tenant reaches.
ALTER TABLE network_record ADD COLUMN host_access TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(host_access));

-- When its last restore began.
ALTER TABLE pool_set ADD COLUMN restored INTEGER;
