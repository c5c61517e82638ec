"""A PostgreSQL server of a test's own, on the loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:] or [
    Path(shutil.which("initdb") or "/nowhere/initdb").parent
]
#: It refuses to be root.
USER: dict[str, object] = {"user": "postgres"} if os.geteuid() == 0 else {}


@pytest.fixture
def postgresql():
    """A PostgreSQL server for this test, in a folder of its own: pytest closes its folders to other users at any time."""
    tools = POSTGRES[0]
    if not (tools / "initdb").exists():
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = folder_of(port)
    shutil.rmtree(place, ignore_errors=True)  # of a test that was killed
    place.mkdir()
    place.chmod(0o777)
    address = f"postgresql+psycopg://fairquant@127.0.0.1:{port}/postgres"
    try:
        run(tools / "initdb", "-D", place / "data", "-U", "fairquant", "-A", "trust", "--no-sync")
        switch(address, on=True)
        yield address
    finally:
        run(tools / "pg_ctl", "-D", place / "data", "-m", "immediate", "stop", check=False)
        shutil.rmtree(place, ignore_errors=True)


def folder_of(port: int) -> Path:
    return Path(tempfile.gettempdir()) / f"fairquant-postgresql-{port}"


def run(*command: object, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(each) for each in command], check=check, capture_output=True, cwd="/", **USER)


def switch(address: str, on: bool) -> None:
    """Start the server, or stop it at once, as a crash does."""
    port = int(address.rpartition(":")[2].partition("/")[0])
    place = folder_of(port)
    tool = [POSTGRES[0] / "pg_ctl", "-D", place / "data"]
    if not on:
        done = run(*tool, "-t", "300", "-m", "immediate", "stop", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    run(*tool, "-w", "-o", options, "-l", place / "log", "start")
