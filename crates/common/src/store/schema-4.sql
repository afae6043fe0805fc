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
