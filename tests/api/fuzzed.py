# SPDX-License-Identifier: Apache-2.0
"""Both daemons' control APIs under schemathesis: what it makes of their OpenAPI documents, with all its checks."""

import pathlib
import subprocess
import sys
import tempfile

from hosts import Host, on_tcp

HERE = pathlib.Path(__file__).parent


def main() -> int:
    program = pathlib.Path(sys.executable).with_name("schemathesis")
    failed = False
    with tempfile.TemporaryDirectory(prefix="ciao-api-") as folder, Host(pathlib.Path(folder), "h1", "192.0.2.1") as host:
        for path in (host.control, host.ipam_control):
            with on_tcp(path) as url:
                command = [program, "--config-file", HERE / "schemathesis.toml", "run", f"{url}/v1/openapi.json"]
                command += ["--url", url, "--continue-on-failure", *sys.argv[1:]]
                print(f"\n{path.name}", flush=True)
                failed |= subprocess.run(command, check=False, cwd=folder).returncode != 0
        failed |= host.process.poll() is not None
        log = (host.folder / "log").read_text()
        failed |= "panicked" in log
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
