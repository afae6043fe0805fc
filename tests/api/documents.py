# SPDX-License-Identifier: Apache-2.0
"""Writes both daemons' OpenAPI documents into a folder: ciao_client.json and ciao_ipam_client.json."""

import pathlib
import sys
import tempfile

import httpx

from hosts import Host


def main():
    with tempfile.TemporaryDirectory(prefix="ciao-api-") as folder, Host(pathlib.Path(folder), "h1", "192.0.2.1") as host:
        for name, path in (("ciao_client", host.control), ("ciao_ipam_client", host.ipam_control)):
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
                document = client.get("http://ciao/v1/openapi.json").raise_for_status()
            (pathlib.Path(sys.argv[1]) / f"{name}.json").write_bytes(document.content)


if __name__ == "__main__":
    main()
