"""A PostgreSQL server of a test's own, on the loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:] or [
    Path(shutil.which("initdb") or "/nowhere/initdb").parent
]


@pytest.fixture
def postgresql(tmp_path):
    """A PostgreSQL server of our own, on the loopback, for this test."""
    tools = POSTGRES[0]
    if not (tools / "initdb").exists():
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = tmp_path / "pg"
    user: dict[str, object] = {}
    if os.geteuid() == 0:  # it refuses to be root
        subprocess.run(["chmod", "777", str(tmp_path)], check=True)
        for parent in tmp_path.parents:
            if parent != Path("/") and parent.stat().st_mode & 0o011 != 0o011:
                parent.chmod(parent.stat().st_mode | 0o011)
        user = {"user": "postgres"}
    quiet = {"check": True, "capture_output": True, "cwd": "/", **user}
    subprocess.run([tools / "initdb", "-D", data, "-U", "fairquant", "-A", "trust", "--no-sync"], **quiet)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    subprocess.run([tools / "pg_ctl", "-D", data, "-w", "-o", options, "-l", tmp_path / "pg.log", "start"], **quiet)
    try:
        yield f"postgresql+psycopg://fairquant@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([tools / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **{**quiet, "check": False})


def switch(postgresql: str, tmp_path: Path, on: bool) -> None:
    """Stop the server at once, as a crash does, or start it again."""
    port = postgresql.rpartition(":")[2].partition("/")[0]
    user: dict[str, object] = {"user": "postgres"} if os.geteuid() == 0 else {}
    quiet = {"check": True, "capture_output": True, "cwd": "/", **user}
    tool = [POSTGRES[0] / "pg_ctl", "-D", tmp_path / "pg"]
    if not on:
        done = subprocess.run([*tool, "-t", "300", "-m", "immediate", "stop"], **{**quiet, "check": False})
        assert done.returncode == 0, done.stdout + done.stderr
        return
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    subprocess.run([*tool, "-w", "-o", options, "-l", tmp_path / "pg.log", "start"], **quiet)
