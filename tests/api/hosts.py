# SPDX-License-Identifier: Apache-2.0
"""Hosts for tests: both daemons in network and mount namespaces of their own, and their control sockets.

The running kernel does what they ask, so it needs root and nft; nothing of this machine's is touched.
"""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

PROGRAMS = pathlib.Path(os.environ["CIAO_BIN_DIR"])
ENTER = """
mount -t tmpfs tmpfs /run && mkdir /run/netns && mount -t sysfs sysfs /sys && ip link set lo up
ip address add "$ADDRESS/24" dev lo
"$PROGRAMS/ciao-ipam" serve --db "$FOLDER/ciao.db" --socket "$FOLDER/ipam.sock" --control "$FOLDER/ipam-control.sock" &
exec "$PROGRAMS/ciao-net" serve --db "$FOLDER/ciao.db" --socket "$FOLDER/net.sock" --control "$FOLDER/control.sock"
"""


class Host:
    """A host with both daemons, which end with the context."""

    def __init__(self, folder: pathlib.Path, name: str, address: str):
        self.name, self.address, self.folder = name, address, folder / name
        self.control = self.folder / "control.sock"
        self.ipam_control = self.folder / "ipam-control.sock"

    def __enter__(self):
        self.folder.mkdir()
        environment = os.environ | {"ADDRESS": self.address, "FOLDER": str(self.folder), "PROGRAMS": str(PROGRAMS)}
        command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", ENTER]
        self.log = open(self.folder / "log", "w")
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)
        try:
            for path in (self.control, self.ipam_control):
                wait_until(lambda: listens(path), f"{self.name} listens on {path}")
        except BaseException:
            self.__exit__()
            print((self.folder / "log").read_text())
            raise
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()


def listens(path: pathlib.Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def wait_until(condition, what: str, seconds: float = 60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} seconds: {what}")
        time.sleep(0.05)


@contextlib.contextmanager
def on_tcp(path: pathlib.Path):
    """The URL at which a Unix socket is reached over TCP, for programs that know nothing else."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:

        def carry(source: socket.socket, sink: socket.socket):
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    sink.sendall(data)
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

        def serve(client: socket.socket):
            with client, socket.socket(socket.AF_UNIX) as server:
                server.connect(str(path))
                back = threading.Thread(target=carry, args=(server, client), daemon=True)
                back.start()
                carry(client, server)
                back.join()

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
