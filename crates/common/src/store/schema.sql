-- SPDX-License-Identifier: Apache-2.0
-- The records of ciao's two daemons: every table, at the newest version. An older file becomes the same by the steps
-- schema-N.sql, each from version N - 1; the views for people are in views.sql.
--
-- ciao-ipam alone writes pool_set, pool_record, address_record, free_range and lease_event; ciao-net alone writes the
-- others. No foreign key crosses that line, so that either daemon can be restarted or upgraded alone.
--
-- Text is as Docker shows it. Times are milliseconds since 1970, UTC, by the host's clock at boot, if that is not
-- behind the records of before: later steps of that clock do not move them. An address's key is its 4 or 16 bytes in
-- network order, so that keys compare as addresses do.

-- One set of addresses: a subnet in a tenant's address space. Several pools (sub-pools) of a tenant may share it.
CREATE TABLE pool_set (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    scope   TEXT NOT NULL CHECK (scope IN ('local', 'global')),  -- Docker's address space
    tenant  TEXT,                    -- NULL: without a tenant, a space of its own
    subnet  TEXT NOT NULL,           -- canonical CIDR
    first   BLOB NOT NULL,           -- key of its lowest address
    last    BLOB NOT NULL,           -- key of its highest address
    -- Of global sets: the leadership that made them, and the last one that requested them.
    term    INTEGER NOT NULL DEFAULT 0,
    asked   INTEGER NOT NULL DEFAULT 0,
    restoring INTEGER,               -- since when a new leader requests its addresses again; NULL: it does not
    confirmed INTEGER NOT NULL DEFAULT 0 CHECK (confirmed IN (0, 1)),  -- 1: that leader requested a lease again
    restored INTEGER,                -- when its last restore began
    -- 1: rebuilt from a PoolID; its allocated addresses are unknown until ciao-net reconcile --docker.
    incomplete INTEGER NOT NULL DEFAULT 0 CHECK (incomplete IN (0, 1)),
    UNIQUE (scope, tenant, subnet),  -- NULLs differ: any number of spaces of their own
    CHECK (length(first) = length(last) AND length(first) IN (4, 16) AND first <= last)
) STRICT;
CREATE INDEX pool_set_by_place ON pool_set (scope, tenant, length(last), last);
CREATE INDEX pool_set_by_end ON pool_set (scope, length(last), last);
CREATE INDEX pool_set_by_subnet ON pool_set (scope, subnet);

-- A pool, which Docker identifies by its PoolID. A tenant may have identical ones: a pool that was requested without
-- the tenant is merged into the tenant's set.
CREATE TABLE pool_record (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    pool_id  TEXT NOT NULL UNIQUE,   -- Docker's PoolID; lost-…: Docker's is unknown
    set_id   INTEGER NOT NULL REFERENCES pool_set (id) ON DELETE CASCADE,
    sub_pool TEXT NOT NULL DEFAULT '',  -- range of dynamic addresses; '': the whole subnet
    serial   INTEGER NOT NULL DEFAULT 0 CHECK (serial IN (0, 1)),  -- 1: dynamic addresses in ascending order
    cursor   BLOB,                   -- key of the last address allocated in serial mode
    refs     INTEGER NOT NULL DEFAULT 1 CHECK (refs >= 0),  -- RequestPool less ReleasePool; 0: unreferenced since a new leader
    former   INTEGER NOT NULL DEFAULT 0 CHECK (former >= 0),  -- refs before a new leader restored the set
    nonce    TEXT NOT NULL DEFAULT '',  -- of the local address space of the last request
    created  INTEGER NOT NULL,
    -- Time of the last RequestPool. An older list of Docker's networks may lack that network. 0: not recorded.
    requested INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX pool_by_set ON pool_record (set_id, sub_pool, serial);

-- An address that is not available to dynamic requests.
CREATE TABLE address_record (
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
CREATE INDEX address_gateway ON address_record (set_id) WHERE kind = 'gateway';
CREATE INDEX address_kept ON address_record (set_id) WHERE kind = 'reserved';
-- Leases in use have no entry here, so unused ones are found without a scan.
CREATE INDEX address_unclaimed ON address_record (set_id, unclaimed) WHERE unclaimed IS NOT NULL;

-- Free addresses, as ranges that are never adjacent: an empty IPv6 /64 is one row.
CREATE TABLE free_range (
    set_id INTEGER NOT NULL REFERENCES pool_set (id) ON DELETE CASCADE,
    last   BLOB NOT NULL,
    first  BLOB NOT NULL,
    PRIMARY KEY (set_id, last),
    CHECK (first <= last)
) STRICT, WITHOUT ROWID;

-- A Docker network of driver ciao-net, or one of a tenant's on other hosts.
CREATE TABLE network_record (
    id         TEXT PRIMARY KEY,     -- Docker's NetworkID
    tenant     TEXT,                 -- NULL: a network of its own
    namespace  TEXT,                 -- network namespace of its bridge; NULL: the host's
    bridge     TEXT NOT NULL,
    mtu        INTEGER CHECK (mtu BETWEEN 68 AND 65535),
    egress     TEXT NOT NULL CHECK (egress IN ('nat', 'gateway', 'docker', 'none')),
    vnics      TEXT NOT NULL CHECK (vnics IN ('auto', 'required')),
    dst_prefix TEXT NOT NULL,        -- prefix of the container's interface name
    egress6    TEXT NOT NULL CHECK (egress6 IN ('nat', 'route', 'none')),  -- egress of IPv6, if egress is nat
    secured    INTEGER NOT NULL CHECK (secured IN (0, 1)),  -- port_security: anti-spoofing
    icc        INTEGER NOT NULL CHECK (icc IN (0, 1)),      -- inter-container communication
    egress_allow TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(egress_allow)),  -- exceptions to --egress-deny
    host_access TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(host_access)),  -- ports of the host's own services
    options    TEXT NOT NULL CHECK (json_valid(options)),  -- of CreateNetwork, to recognize a repeated request
    created    INTEGER NOT NULL,
    remote     INTEGER NOT NULL DEFAULT 0 CHECK (remote IN (0, 1))  -- 1: on other hosts alone, and this one routes to it
) STRICT, WITHOUT ROWID;
CREATE INDEX network_by_tenant ON network_record (tenant);
CREATE INDEX network_by_bridge ON network_record (namespace, bridge);

CREATE TABLE network_subnet (
    network TEXT NOT NULL REFERENCES network_record (id) ON DELETE CASCADE,
    subnet  TEXT NOT NULL,
    gateway TEXT,                    -- without prefix length
    aux     TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(aux)),  -- --aux-address, without prefix length
    set_id  INTEGER,                 -- pool_set.id at ciao-ipam; NULL: another IPAM driver's
    pool    TEXT,                    -- PoolID of its request
    PRIMARY KEY (network, subnet)
) STRICT, WITHOUT ROWID;
CREATE INDEX network_subnet_by_set ON network_subnet (set_id);
CREATE INDEX network_subnet_by_subnet ON network_subnet (subnet);
CREATE INDEX network_subnet_by_pool ON network_subnet (pool);

-- A static route of a network's containers.
CREATE TABLE network_route (
    network     TEXT NOT NULL REFERENCES network_record (id) ON DELETE CASCADE,
    destination TEXT NOT NULL,
    next_hop    TEXT,                -- NULL: directly connected
    PRIMARY KEY (network, destination)
) STRICT, WITHOUT ROWID;

-- A veth pair: one end for a container, the other on a bridge.
CREATE TABLE vnic_record (
    id             TEXT PRIMARY KEY,
    owner          TEXT NOT NULL CHECK (owner IN ('launcher', 'docker')),  -- which side deletes it
    state          TEXT NOT NULL DEFAULT 'live' CHECK (state IN ('live', 'deleting')),  -- deleting: until its links are deleted
    tenant         TEXT,             -- NULL: of a network without tenant
    network        TEXT,             -- owner docker: its network
    instance       TEXT,             -- owner launcher: its instance
    subnet         TEXT NOT NULL,    -- '': without an address
    address        TEXT,
    subnet6        TEXT,
    address6       TEXT,
    mac            TEXT NOT NULL,
    gateway        TEXT,             -- owner launcher: gateway of the Docker network
    mtu            INTEGER CHECK (mtu BETWEEN 68 AND 65535),
    namespace      TEXT,             -- NULL: the host's
    bridge         TEXT NOT NULL,
    allowed        TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(allowed)),  -- additional source addresses
    rate           TEXT,             -- rate limit per direction, such as 100mbit
    network_name   TEXT,             -- owner launcher: name of the Docker network
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
    attached INTEGER,                -- when its link was first seen in a container; NULL: not yet
    interface TEXT                   -- its name in the container; NULL: the network's prefix and a number
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX endpoint_by_address ON endpoint_record (network, address);
CREATE UNIQUE INDEX endpoint_by_address6 ON endpoint_record (network, address6);

-- A namespace's uplink to the host. Its addresses are the number-th pair of the daemon's uplink pools.
CREATE TABLE uplink_record (
    namespace TEXT PRIMARY KEY,
    number    INTEGER NOT NULL UNIQUE CHECK (number >= 0),
    host_link TEXT NOT NULL UNIQUE   -- the host's end; the other is up0
) STRICT, WITHOUT ROWID;

-- A published port: a port of the host that is forwarded to a container.
CREATE TABLE port_record (
    protocol       TEXT NOT NULL CHECK (protocol IN ('tcp', 'udp', 'sctp')),
    host_address   TEXT NOT NULL,    -- 0.0.0.0 or ::: all addresses
    host_port      INTEGER NOT NULL CHECK (host_port BETWEEN 1 AND 65535),
    endpoint       TEXT NOT NULL REFERENCES endpoint_record (id) ON DELETE CASCADE,
    namespace      TEXT NOT NULL,    -- of the container's tenant
    address        TEXT NOT NULL,    -- of the container
    container_port INTEGER NOT NULL CHECK (container_port BETWEEN 1 AND 65535),
    inner_port     INTEGER CHECK (inner_port BETWEEN 1 AND 65535),  -- at the tenant's uplink; NULL: host_port
    PRIMARY KEY (protocol, host_address, host_port)
) STRICT, WITHOUT ROWID;
CREATE INDEX port_by_endpoint ON port_record (endpoint);
CREATE INDEX port_by_namespace ON port_record (namespace);

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

-- Subnets in the host's routing table, as ciao-net last read it: default pools avoid them.
CREATE TABLE host_route (
    subnet TEXT PRIMARY KEY,
    first  BLOB NOT NULL,            -- key of its lowest address
    last   BLOB NOT NULL             -- key of its highest address
) STRICT, WITHOUT ROWID;
CREATE INDEX host_route_by_end ON host_route (length(last), last);

-- What ciao-net changed of the host's own settings, shown by `ciao-net host show`, restored by `ciao-net host
-- restore`.
CREATE TABLE host_setting (
    name    TEXT PRIMARY KEY,        -- as sysctl or iptables take it: net.ipv4.ip_forward, iptables -P FORWARD
    before  TEXT NOT NULL,
    after   TEXT NOT NULL,
    boot    TEXT NOT NULL,           -- the kernel's boot_id: a change does not outlast its boot
    changed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The hosts of the cluster, this one included, as set by its controller.
CREATE TABLE cluster_host (
    id      TEXT PRIMARY KEY,
    address TEXT NOT NULL UNIQUE,    -- in the underlay network
    mtu     INTEGER NOT NULL CHECK (mtu BETWEEN 68 AND 65535),  -- of its underlay link
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

-- An address of a tenant that another host says is on it. Several may say so, as an address moves, and all with the
-- network say so of its gateway.
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
    digest     TEXT NOT NULL,        -- of the list, independent of its order
    changed    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Facts of this host and of this file:
--   ula         the IPv6 prefix for default pools
--   clock       the kernel's boot_id, and the time of that boot
--   engine_started  when the engine last started
--   leadership  how often the engine has started or become a swarm's leader
--   restored    when it last did, or when the last restore of a pool under it began
--   released SUBNET  when a pool of that subnet was last released, for an hour
--   former_rules  1: rules of version 0.1.0 are in the chains of the host's firewall
--   compatible  the oldest version of a program that may use this file
CREATE TABLE setting (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
