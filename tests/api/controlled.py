# SPDX-License-Identifier: Apache-2.0
"""The example controller keeps three hosts in step, is killed in the middle of a PUT, and is started again."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading

import httpx
from ciao_client import Client
from ciao_client.api.hosts import list_hosts
from ciao_client.api.remotes import list_remotes
from ciao_client.api.tenants import show_remotes

from hosts import Host, wait_until

CONTROLLER = pathlib.Path(__file__).parents[2] / "deploy/examples/controller/controller.py"


class Gate:
    """The control socket of a host as the controller reaches it; stops a PUT where it is told to."""

    def __init__(self, path: pathlib.Path, to: pathlib.Path):
        self.path, self.to = path, to
        self.stop_at, self.stopped = None, threading.Event()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            threading.Thread(target=self.relay, args=(self.listener.accept()[0],), daemon=True).start()

    def relay(self, client: socket.socket):
        with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(ConnectionError):
            server.connect(str(self.to))
            while request := message(client):
                is_put = request.startswith(b"PUT")
                if is_put and self.stop_at == "half":
                    server.sendall(request[: len(request) // 2])
                    return self.hold(client)
                server.sendall(request)
                reply = message(server)
                if is_put and self.stop_at == "reply":
                    return self.hold(client)
                client.sendall(reply)

    def hold(self, client: socket.socket):
        """Until the controller is dead."""
        self.stopped.set()
        client.recv(1)


def message(stream: socket.socket) -> bytes:
    """A whole request or reply of HTTP; empty at the end."""
    head = b""
    while b"\r\n\r\n" not in head:
        if not (data := stream.recv(65536)):
            return b""
        head += data
    head, _, body = head.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0]) if lengths else 0
    while len(body) < length and (data := stream.recv(65536)):
        body += data
    return head + b"\r\n\r\n" + body


def over(host: Host) -> Client:
    return Client(base_url="http://ciao", httpx_args={"transport": httpx.HTTPTransport(uds=str(host.control))})


def lists(host: Host) -> dict[str, list]:
    """What a host has of each tenant."""
    with over(host) as client:
        tenants = [known.tenant for known in list_remotes.sync(client=client) if known.remotes]
        return {tenant: sorted(show_remotes.sync(tenant, client=client).remotes) for tenant in tenants}


def generations(host: Host) -> dict[str, int]:
    with over(host) as client:
        return {one.tenant: one.generation for one in list_remotes.sync(client=client)} | {
            "": list_hosts.sync(client=client).generation
        }


def instances(count: int, shift: int, tenants=("blue", "red")) -> list[dict]:
    def one(tenant: str, number: int) -> dict:
        [high, low] = number.to_bytes(2, "big")
        mac = f"02:00:0a:01:{high:02x}:{low:02x}"
        return {"tenant": tenant, "address": f"10.1.{high}.{low}", "mac": mac, "host": f"h{(number + shift) % 3 + 1}"}

    return [one(tenant, number) for tenant in tenants for number in range(2, count + 2)]


class Scene:
    def __init__(self, folder: pathlib.Path, hosts: list[Host]):
        self.file, self.hosts, self.started = folder / "cluster.json", hosts, []
        self.gates = [Gate(folder / f"{host.name}.sock", host.control) for host in hosts]
        self.log = open(folder / "controller.log", "w")

    def want(self, wanted: list[dict]) -> dict[str, list]:
        """Writes the controller's file; what each host is to have."""
        hosts = zip(self.hosts, self.gates, strict=True)
        members = [{"id": host.name, "address": host.address, "socket": str(gate.path)} for host, gate in hosts]
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"hosts": members, "instances": wanted}))
        new.rename(self.file)
        self.wanted = {}
        for one in wanted:
            self.wanted.setdefault(one["tenant"], []).append([one["address"], one["mac"], one["host"]])
        self.wanted = {tenant: sorted(rows) for tenant, rows in self.wanted.items()}
        return self.wanted

    def start(self) -> subprocess.Popen:
        environment = os.environ | {"EVERY": "0.05"}
        command = [sys.executable, CONTROLLER, self.file]
        self.started.append(subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log))
        return self.started[-1]

    def converges(self, what: str):
        wait_until(lambda: all(lists(host) == self.wanted for host in self.hosts), f"all hosts have {what}")

    def end(self):
        for process in self.started:
            process.kill()
            process.wait()
        self.log.close()


def follow(scene: Scene):
    before = scene.want(instances(20, 0))
    running = scene.start()
    scene.converges("the first list")

    # Killed in the middle of its PUT to each host: with half of the body sent, and with the reply not read.
    kills = 0
    for shift, (index, gate) in enumerate(list(enumerate(scene.gates)) * 2, 1):
        gate.stop_at = "half" if shift <= len(scene.gates) else "reply"
        after = scene.want(instances(200, shift))
        assert gate.stopped.wait(60), f"no PUT to host {index}"
        running.send_signal(signal.SIGKILL)
        running.wait()
        # Of two tenants, blue's list is given first.
        found = [[lists(host).get(tenant) == after[tenant] for tenant in ("blue", "red")] for host in scene.hosts]
        torn = [gate.stop_at == "reply", False]
        assert found == [[True, True]] * index + [torn] + [[False, False]] * (2 - index), (gate.stop_at, index, found)
        kills += 1
        gate.stop_at = None
        gate.stopped.clear()
        running = scene.start()
        scene.converges(f"the list after kill {kills}")
    assert before != after

    # Killed and started again with nothing to do, it gives nothing.
    known = [generations(host) for host in scene.hosts]
    running.kill()
    running.wait()
    running = scene.start()
    # A tenant that goes is emptied; only then it is known that the start has looked at the rest.
    scene.want(instances(200, shift, tenants=["red"]))
    scene.converges("no more of blue")
    for old, new in zip(known, map(generations, scene.hosts), strict=True):
        assert old | {"blue": new["blue"]} == new and old["blue"] < new["blue"], f"only blue's list is given: {old} {new}"

    # A later start takes over from one that still runs.
    later = scene.start()
    counts = iter(range(3, 1000))

    def ended() -> bool:
        scene.want(instances(next(counts), 0))
        scene.converges("a list of either")
        return running.poll() is not None

    # Until the later one is the first to give a list, they give the same.
    wait_until(ended, "the earlier controller ends")
    assert (running.returncode, later.poll()) == (1, None)
    return kills


def main():
    with tempfile.TemporaryDirectory(prefix="ciao-api-") as name, contextlib.ExitStack() as stack:
        folder = pathlib.Path(name)
        hosts = [stack.enter_context(Host(folder, f"h{n}", f"192.0.2.{n}")) for n in (1, 2, 3)]
        scene = Scene(folder, hosts)
        try:
            kills = follow(scene)
        except BaseException:
            print((folder / "controller.log").read_text())
            raise
        finally:
            scene.end()
    print(f"controller: three hosts in step after {kills} kills in the middle of a PUT; a later start took over")


if __name__ == "__main__":
    main()
