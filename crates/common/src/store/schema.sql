-- SPDX-License-Identifier: Apache-2.0
-- The records of ciao's two daemons: every table, at the newest version. An older file becomes the same by the steps
-- schema-N.sql, each from version N - 1; the views for people are in views.sql.
--
-- ciao-ipam alone writes pool_set, pool_record, address_record and free_range; ciao-net alone writes the others. No
-- foreign key crosses that line, so that either daemon can be restarted or upgraded alone.
--
-- Text is what Docker shows. Times are milliseconds since 1970, UTC, by what the host's clock said at boot: no step of it
-- moves them. An address's key is its 4 or 16 bytes in
-- the order of the wire, so that keys compare as addresses do.

-- One set of addresses: a subnet in a tenant's address space. Several pools (sub-pools) of a tenant may share it.
CREATE TABLE pool_set (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    scope   TEXT NOT NULL CHECK (scope IN ('local', 'global')),  -- Docker's address space
    tenant  TEXT,                    -- NULL: without a tenant, a space of its own
    subnet  TEXT NOT NULL,           -- canonical CIDR
    first   BLOB NOT NULL,           -- key of its lowest address
    last    BLOB NOT NULL,           -- key of its highest address
    -- Of global sets: the leadership that they are of, and the last one that requested them.
    term    INTEGER NOT NULL DEFAULT 0,
    asked   INTEGER NOT NULL DEFAULT 0,
    restoring INTEGER,               -- since when a new leader requests its addresses again; NULL: it does not
    confirmed INTEGER NOT NULL DEFAULT 0 CHECK (confirmed IN (0, 1)),  -- 1: that leader requested a lease again
    -- 1: made again from a PoolID, so who has which address is not known until ciao-net reconcile --docker.
    incomplete INTEGER NOT NULL DEFAULT 0 CHECK (incomplete IN (0, 1)),
    UNIQUE (scope, tenant, subnet),  -- NULLs differ: any number of spaces of their own
    CHECK (length(first) = length(last) AND length(first) IN (4, 16) AND first <= last)
) STRICT;
CREATE INDEX pool_set_by_place ON pool_set (scope, tenant, length(last), last);
CREATE INDEX pool_set_by_end ON pool_set (scope, length(last), last);
CREATE INDEX pool_set_by_subnet ON pool_set (scope, subnet);

-- A pool, as Docker names it by its PoolID. Several of a tenant may be alike: one that was requested without the tenant is
-- merged into its set.
CREATE TABLE pool_record (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    pool_id  TEXT NOT NULL UNIQUE,   -- Docker's PoolID; lost-…: Docker has one that is not known
    set_id   INTEGER NOT NULL REFERENCES pool_set (id) ON DELETE CASCADE,
    sub_pool TEXT NOT NULL DEFAULT '',  -- where dynamic addresses come from, '' = the whole subnet
    serial   INTEGER NOT NULL DEFAULT 0 CHECK (serial IN (0, 1)),  -- 1: the next address, not the lowest free one
    cursor   BLOB,                   -- key of the last address given in serial mode
    refs     INTEGER NOT NULL DEFAULT 1 CHECK (refs >= 0),  -- RequestPool less ReleasePool; 0: nobody's since a new leader
    former   INTEGER NOT NULL DEFAULT 0 CHECK (former >= 0),  -- refs of before a new leader restored the set
    nonce    TEXT NOT NULL DEFAULT '',  -- of the local address space that it was last requested in
    created  INTEGER NOT NULL,
    -- The last RequestPool. A list of Docker's networks that is older may lack that network. 0: before this was recorded.
    requested INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX pool_by_set ON pool_record (set_id, sub_pool, serial);

-- An address that a dynamic request does not get.
CREATE TABLE address_record (
    set_id  INTEGER NOT NULL REFERENCES pool_set (id) ON DELETE CASCADE,
    key     BLOB NOT NULL,
    address TEXT NOT NULL,
    pool    INTEGER,                 -- pool_record.id it was granted through; NULL: not granted, kept for a reservation
    kind    TEXT NOT NULL CHECK (kind IN ('lease', 'gateway', 'reserved')),
    held    INTEGER NOT NULL CHECK (held >= 0),  -- how often it was granted and not released
    granted INTEGER NOT NULL,        -- when last
    -- Since when no endpoint claims this lease; NULL: one does, as far as is known. The engine may try for 15 seconds to
    -- release the address of an endpoint that it has deleted, and would release the next holder's.
    unclaimed INTEGER,
    term    INTEGER NOT NULL DEFAULT 0,  -- of a global set: the leadership that granted it
    PRIMARY KEY (set_id, key),
    CHECK ((kind = 'reserved') = (held = 0)),
    CHECK ((pool IS NULL) = (held = 0)),
    CHECK (kind = 'gateway' OR held <= 1)
) STRICT, WITHOUT ROWID;
CREATE INDEX address_by_pool ON address_record (pool);
CREATE INDEX address_gateway ON address_record (set_id) WHERE kind = 'gateway';
CREATE INDEX address_kept ON address_record (set_id) WHERE kind = 'reserved';
-- Leases that are claimed have no entry here, so what is not is found without a look at them.
CREATE INDEX address_unclaimed ON address_record (set_id, unclaimed) WHERE unclaimed IS NOT NULL;

-- The addresses that are free, as runs that do not touch: an empty IPv6 /64 is one row.
CREATE TABLE free_range (
    set_id INTEGER NOT NULL REFERENCES pool_set (id) ON DELETE CASCADE,
    last   BLOB NOT NULL,
    first  BLOB NOT NULL,
    PRIMARY KEY (set_id, last),
    CHECK (first <= last)
) STRICT, WITHOUT ROWID;

-- A Docker network of driver ciao-net.
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
    egress_allow TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(egress_allow)),  -- subnets reached in spite of --egress-deny
    options    TEXT NOT NULL CHECK (json_valid(options)),  -- the user's, and what else CreateNetwork said, to know it again
    created    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX network_by_tenant ON network_record (tenant);
CREATE INDEX network_by_bridge ON network_record (namespace, bridge);

CREATE TABLE network_subnet (
    network TEXT NOT NULL REFERENCES network_record (id) ON DELETE CASCADE,
    subnet  TEXT NOT NULL,
    gateway TEXT,                    -- bare address
    aux     TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(aux)),  -- --aux-address, bare
    set_id  INTEGER,                 -- pool_set.id at ciao-ipam; NULL: another IPAM driver's
    pool    TEXT,                    -- the PoolID that it was requested with
    PRIMARY KEY (network, subnet)
) STRICT, WITHOUT ROWID;
CREATE INDEX network_subnet_by_set ON network_subnet (set_id);
CREATE INDEX network_subnet_by_subnet ON network_subnet (subnet);
CREATE INDEX network_subnet_by_pool ON network_subnet (pool);

-- A route that containers of a network get beside the gateway's.
CREATE TABLE network_route (
    network     TEXT NOT NULL REFERENCES network_record (id) ON DELETE CASCADE,
    destination TEXT NOT NULL,
    next_hop    TEXT,                -- NULL: the link itself
    PRIMARY KEY (network, destination)
) STRICT, WITHOUT ROWID;

-- A veth pair: one end for a container, the other on a bridge.
CREATE TABLE vnic_record (
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
CREATE UNIQUE INDEX vnic_by_address ON vnic_record (tenant, subnet, address) WHERE owner = 'launcher' AND state = 'live';
CREATE UNIQUE INDEX vnic_by_address6 ON vnic_record (tenant, subnet6, address6) WHERE owner = 'launcher' AND state = 'live';
CREATE INDEX vnic_by_mac ON vnic_record (namespace, bridge, mac);
CREATE INDEX vnic_by_instance ON vnic_record (instance);
CREATE INDEX vnic_by_network ON vnic_record (network);
CREATE INDEX vnic_by_state ON vnic_record (state) WHERE state = 'deleting';

-- A container's attachment to a network, from CreateEndpoint to DeleteEndpoint.
CREATE TABLE endpoint_record (
    id       TEXT PRIMARY KEY,       -- Docker's EndpointID
    network  TEXT NOT NULL,          -- network_record.id
    vnic     TEXT NOT NULL UNIQUE,   -- vnic_record.id
    address  TEXT,
    address6 TEXT,
    created  INTEGER NOT NULL,
    attached INTEGER                 -- since when a container was seen to have its link; NULL: it is still under way
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX endpoint_by_address ON endpoint_record (network, address);
CREATE UNIQUE INDEX endpoint_by_address6 ON endpoint_record (network, address6);

-- A namespace's uplink to the host. Its addresses are the number-th pair of the daemon's uplink pools.
CREATE TABLE uplink_record (
    namespace TEXT PRIMARY KEY,
    number    INTEGER NOT NULL UNIQUE CHECK (number >= 0),
    host_link TEXT NOT NULL UNIQUE   -- the host's end; the other is up0
) STRICT, WITHOUT ROWID;

-- A published port: a port of the host that leads to a container.
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
CREATE INDEX port_by_endpoint ON port_record (endpoint);
CREATE INDEX port_by_namespace ON port_record (namespace);

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

-- The hosts of a cluster, this one too, as its controller gives them.
CREATE TABLE cluster_host (
    id      TEXT PRIMARY KEY,
    address TEXT NOT NULL UNIQUE,    -- in the network between the hosts
    mtu     INTEGER NOT NULL CHECK (mtu BETWEEN 68 AND 65535),  -- of its link there
    number  INTEGER NOT NULL UNIQUE CHECK (number >= 0)  -- of its nexthop in the kernel
) STRICT, WITHOUT ROWID;

-- A tenant's network that reaches over several hosts, by VXLAN.
CREATE TABLE tunnel_record (
    network TEXT PRIMARY KEY REFERENCES network_record (id) ON DELETE CASCADE,
    vni     INTEGER NOT NULL UNIQUE CHECK (vni BETWEEN 1 AND 16777215)
) STRICT, WITHOUT ROWID;

-- Which host an address of a tenant is on, as the controller gives it. A tenant's subnets are apart, so an address says
-- in which of them it is. The host may not be in cluster_host yet.
CREATE TABLE remote_record (
    tenant  TEXT NOT NULL,
    key     BLOB NOT NULL,
    address TEXT NOT NULL,
    mac     TEXT NOT NULL,
    host    TEXT NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

-- What a controller last gave: a list of that generation.
CREATE TABLE generation_record (
    list       TEXT PRIMARY KEY,     -- a tenant, whose remotes; '': the hosts
    generation INTEGER NOT NULL,
    digest     TEXT NOT NULL,        -- of the list, whatever its order
    changed    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Facts of this host and of this file:
--   ula         the IPv6 prefix for default pools
--   clock       the kernel's boot_id, and the time of that boot
--   engine_started  when the engine last started
--   compatible  the oldest version of a program that may use this file
CREATE TABLE setting (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
