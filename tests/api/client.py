# SPDX-License-Identifier: Apache-2.0
"""The generated clients of both daemons make, list, show and delete what the control API has."""

import pathlib
import tempfile

import httpx
import ciao_client as net
import ciao_ipam_client as ipam
from ciao_client.api.endpoints import list_endpoints
from ciao_client.api.hosts import list_hosts, replace_hosts
from ciao_client.api.networks import list_networks, show_network
from ciao_client.api.ports import list_ports
from ciao_client.api.reconcile import reconcile
from ciao_client.api.remotes import list_remotes
from ciao_client.api.status import show_status
from ciao_client.api.tenants import change_remotes, delete_remotes, replace_remotes, show_remotes
from ciao_client.api.vnics import change_vnic, create_vnic, delete_vnic, list_vnics, show_vnic
from ciao_client.models import (
    Error,
    HostRequest,
    HostsRequest,
    ListConflict,
    RemotesChange,
    RemotesDeletion,
    RemotesRequest,
    VnicChange,
    VnicRequest,
)
from ciao_ipam_client.api.leases import list_leases
from ciao_ipam_client.api.pools import list_pools
from ciao_ipam_client.models import LeaseState

from hosts import Host

NETWORK = "3f1c0f5b8f4d4f1f9f0a6a6d5b1e2c3d4e5f60718293a4b5c6d7e8f901234567"


def over(package, path: pathlib.Path):
    """A client of the daemon that listens on this socket."""
    return package.Client(base_url="http://ciao", httpx_args={"transport": httpx.HTTPTransport(uds=str(path))})


def request(number: int) -> VnicRequest:
    address, mac = f"10.5.0.{number}", f"02:00:0a:05:00:{number:02x}"
    return VnicRequest(tenant="red", instance=f"i{number}", subnet="10.5.0.0/24", address=address, mac=mac)


def vnics(daemon, allocator):
    made = [create_vnic.sync_detailed(client=daemon, body=request(number)) for number in (2, 3)]
    assert [reply.status_code for reply in made] == [201, 201], made
    again = create_vnic.sync_detailed(client=daemon, body=request(2))
    assert (again.status_code, again.parsed.id) == (200, made[0].parsed.id)
    wrong = request(4)
    wrong.address = "10.6.0.4"
    refused = create_vnic.sync_detailed(client=daemon, body=wrong)
    assert refused.status_code == 422 and "outside of subnet" in refused.parsed.error, refused
    vnic = made[0].parsed
    assert [one.id for one in list_vnics.sync(client=daemon, instance="i2")] == [vnic.id]
    assert show_vnic.sync(vnic.id, client=daemon).address == "10.5.0.2"
    assert change_vnic.sync(vnic.id, client=daemon, body=VnicChange(rate="100mbit")).rate == "100mbit"
    reserved = list_leases.sync(client=allocator, tenant="red", state=LeaseState.RESERVED)
    assert [lease.address for lease in reserved.items] == ["10.5.0.2", "10.5.0.3"], reserved
    first = list_leases.sync(client=allocator, limit=1)
    rest = list_leases.sync(client=allocator, after=first.next_)
    assert [lease.address for lease in first.items + rest.items] == ["10.5.0.2", "10.5.0.3"]
    for reply in made:
        assert delete_vnic.sync(reply.parsed.id, client=daemon).deleted
    assert not delete_vnic.sync(vnic.id, client=daemon).deleted
    assert isinstance(show_vnic.sync(vnic.id, client=daemon), Error)
    assert list_vnics.sync(client=daemon) == [] and list_leases.sync(client=allocator).items == []


def docker(host, daemon, allocator):
    """A network, made and deleted as Docker does."""
    plugins = {name: httpx.Client(transport=httpx.HTTPTransport(uds=str(host.folder / f"{name}.sock"))) for name in ("net", "ipam")}

    def call(name: str, method: str, body: dict) -> dict:
        reply = plugins[name].post(f"http://docker/{method}", json=body).raise_for_status()
        return reply.json()

    space = call("ipam", "IpamDriver.GetDefaultAddressSpaces", {})["LocalDefaultAddressSpace"]
    pool = call("ipam", "IpamDriver.RequestPool", {"AddressSpace": space, "Pool": "10.7.0.0/24", "Options": {"tenant": "red"}})
    data = {"AddressSpace": space, "Pool": "10.7.0.0/24", "Gateway": "10.7.0.1/24", "AuxAddresses": {}}
    options = {"com.docker.network.generic": {"tenant": "red"}}
    body = {"NetworkID": NETWORK, "Options": options, "IPv4Data": [data], "IPv6Data": []}
    call("net", "NetworkDriver.CreateNetwork", body)
    (network,) = list_networks.sync(client=daemon, tenant="red").items
    assert (network.id, network.subnets, network.gateways) == (NETWORK, ["10.7.0.0/24"], ["10.7.0.1"]), network
    assert network.created.tzinfo is not None, network
    shown = show_network.sync(NETWORK[:12], client=daemon)
    assert (shown.id, shown.namespace) == (NETWORK, "ciao-red") and shown.rules, shown
    (held,) = list_pools.sync(client=allocator, tenant="red").items
    assert (held.id, held.networks) == (pool["PoolID"], [NETWORK]), held
    assert list_endpoints.sync(client=daemon).items == [] and list_ports.sync(client=daemon).items == []
    status = show_status.sync(client=daemon)
    assert (status.networks, status.tenants) == (1, 1), status
    call("net", "NetworkDriver.DeleteNetwork", {"NetworkID": NETWORK})
    call("ipam", "IpamDriver.ReleasePool", {"PoolID": pool["PoolID"]})
    assert list_networks.sync(client=daemon).items == [] and list_pools.sync(client=allocator).items == []
    assert isinstance(show_network.sync(NETWORK, client=daemon), Error)
    assert reconcile.sync(client=daemon, dry_run=True) == []


def remotes(daemon):
    hosts = [HostRequest(id=f"h{n}", address=f"192.0.2.{n}") for n in (1, 2)]
    given = replace_hosts.sync(client=daemon, body=HostsRequest(1, hosts))
    listed = list_hosts.sync(client=daemon)
    assert (listed.own, listed.generation, listed.digest) == ("h1", 1, given.digest), listed
    row = ["10.1.0.12", "02:01:0a:00:00:02", "h2"]
    given = replace_remotes.sync("red", client=daemon, body=RemotesRequest(1, [row]))
    shown = show_remotes.sync("red", client=daemon)
    assert (shown.remotes, shown.digest) == ([row], given.digest), shown
    old = replace_remotes.sync("red", client=daemon, body=RemotesRequest(0, []))
    assert isinstance(old, ListConflict) and old.generation == 1, old
    moved = ["10.1.0.12", "02:01:0a:00:00:02", "h1"]
    change_remotes.sync("red", client=daemon, body=RemotesChange(base=1, generation=2, set_=[moved]))
    assert [(one.tenant, one.generation, one.remotes) for one in list_remotes.sync(client=daemon)] == [("red", 2, 1)]
    delete_remotes.sync("red", client=daemon, body=RemotesDeletion(generation=3))
    assert show_remotes.sync("red", client=daemon).remotes == []


def main():
    with tempfile.TemporaryDirectory(prefix="ciao-api-") as folder, Host(pathlib.Path(folder), "h1", "192.0.2.1") as host:
        with over(net, host.control) as daemon, over(ipam, host.ipam_control) as allocator:
            vnics(daemon, allocator)
            docker(host, daemon, allocator)
            remotes(daemon)
    print("client: VNICs, networks, pools, leases, hosts and remotes are made, listed, shown and deleted")


if __name__ == "__main__":
    main()
