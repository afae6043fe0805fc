#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A small controller: keeps the hosts of a cluster in step with a file, over the client that openapi-python-client
generates. See docs/hosts.md.

    curl --unix-socket /run/ciao/control.sock http://ciao/v1/openapi.json >ciao.json
    openapi-python-client generate --path ciao.json --output-path ciao_client --meta none
    controller.py cluster.json

The file may change at any time. A host's "socket" is its control socket as it is reached from here, such as the near end
of `ssh -N -L /run/h2.sock:/run/ciao/control.sock root@h2`:

    { "hosts":     [ { "id": "h1", "address": "192.0.2.1" },
                     { "id": "h2", "address": "192.0.2.2", "socket": "/run/h2.sock" } ],
      "instances": [ { "tenant": "red", "address": "10.1.0.11", "mac": "02:1c:0a:01:00:0b", "host": "h1" } ] }

It keeps nothing but the number of its last start, and may be killed at any moment: hosts go on with what they have, and
the next start reads their digests and gives only what differs. A later start takes over from one that still runs.
"""

import json
import os
import pathlib
import sys
import time

import httpx
from ciao_client import Client
from ciao_client.api.hosts import list_hosts, replace_hosts
from ciao_client.api.remotes import list_remotes
from ciao_client.api.tenants import replace_remotes
from ciao_client.models import Error, HostRequest, HostsRequest, ListConflict, ListState, RemotesRequest

MTU = 1500


class Superseded(Exception):
    """A controller that was started later has given a list."""


def fnv1a(text: str) -> int:
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    return value


def digest(rows: list[str]) -> str:
    """As the hosts compute it: the sum of the rows' hashes."""
    return f"{sum(map(fnv1a, rows)) % 2**64:016x}"


def next_epoch(path: pathlib.Path) -> int:
    """A number that no earlier start had, on the disk before it is used."""
    epoch = int(path.read_text()) + 1 if path.exists() else 1
    new = path.with_suffix(".new")
    with open(new, "w") as file:
        file.write(f"{epoch}\n")
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    return epoch


class Controller:
    """What is to be given, with the generation of this start."""

    def __init__(self, file: pathlib.Path):
        self.file = file
        self.epoch = next_epoch(file.with_suffix(".epoch"))
        self.generation = self.epoch << 32
        self.wanted = {}

    def read(self):
        """Another content has another generation. What is half written is read again the next time."""
        try:
            wanted = json.loads(self.file.read_text())
        except (OSError, ValueError) as error:
            print(f"controller: read {self.file}: {error}", file=sys.stderr)
            return
        if wanted != self.wanted:
            self.wanted, self.generation = wanted, self.generation + 1

    def hosts(self) -> list[HostRequest]:
        hosts = self.wanted.get("hosts", [])
        return [HostRequest(id=host["id"], address=host["address"], mtu=host.get("mtu", MTU)) for host in hosts]

    def remotes(self) -> dict[str, list[list[str]]]:
        """The rows of each tenant."""
        remotes = {}
        for one in self.wanted.get("instances", []):
            remotes.setdefault(one["tenant"], []).append([one["address"], one["mac"], one["host"]])
        return remotes

    def step(self) -> bool:
        """Gives each host what differs there. Whether all have all."""
        self.read()
        done = True
        for host in self.wanted.get("hosts", []):
            try:
                self.keep(host)
            except (httpx.HTTPError, OSError, RuntimeError) as error:
                print(f"controller: host {host['id']}: {error}", file=sys.stderr)
                done = False
        return done

    def keep(self, host: dict):
        transport = httpx.HTTPTransport(uds=host.get("socket", "/run/ciao/control.sock"))
        with Client(base_url="http://ciao", httpx_args={"transport": transport}) as client:
            hosts = self.hosts()
            known = list_hosts.sync(client=client)
            if self.differs(known, [f"{one.id} {one.address} {one.mtu}" for one in hosts]):
                self.check(replace_hosts.sync(client=client, body=HostsRequest(self.generation, hosts)))
            wanted = self.remotes()
            listed = {one.tenant: one for one in list_remotes.sync(client=client)}
            # A tenant that the file has no more is emptied.
            for tenant in sorted(wanted.keys() | listed.keys()):
                rows = wanted.get(tenant, [])
                if self.differs(listed.get(tenant), [" ".join(row) for row in rows]):
                    body = RemotesRequest(self.generation, rows)
                    self.check(replace_remotes.sync(tenant, client=client, body=body))

    def differs(self, known, rows: list[str]) -> bool:
        if isinstance(known, Error):
            raise RuntimeError(known.error)
        if known and known.generation >> 32 > self.epoch:
            raise Superseded(f"generation {known.generation} is of a controller that was started later")
        return known is None or known.digest != digest(rows)

    def check(self, reply):
        if isinstance(reply, ListConflict):
            if reply.generation >> 32 > self.epoch:
                raise Superseded(reply.error)
            # The list was changed back to what an older generation had: the next step gives it a higher one.
            self.generation = max(self.generation, reply.generation) + 1
        if not isinstance(reply, ListState):
            raise RuntimeError(getattr(reply, "error", "no reply"))


def main() -> int:
    controller = Controller(pathlib.Path(sys.argv[1]).absolute())
    every = float(os.environ.get("EVERY", "5"))
    while True:
        try:
            controller.step()
        except Superseded as error:
            print(f"controller: {error}", file=sys.stderr)
            return 1
        time.sleep(every)


if __name__ == "__main__":
    sys.exit(main())
