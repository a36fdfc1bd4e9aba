"""PostgreSQL from Debian: a cluster of its own in the given directory, on loopback, with a password."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
from pathlib import Path

from hack.cluster.tools.debian import require
from hack.services.service import Service, ServiceError, free_port

_USER = "postgres"


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise ServiceError("PostgreSQL's initdb is not under /usr/lib/postgresql: install Debian's package postgresql")
    return found[-1].parent


def start_postgres(directory: Path, *, settings: dict[str, str] | None = None) -> Service:
    """Start a fresh PostgreSQL below `directory`; `settings` are added to its configuration.

    The service's url is a DSN of a superuser with a password that only this cluster knows.

    Raises:
        ServiceError: when it cannot be made or started.
    """
    if not sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        require(("postgresql",), "the PostgreSQL tests")
    binaries, port, password = _binaries(), free_port(), secrets.token_hex(16)
    data = directory / "postgres"
    directory.mkdir(parents=True, exist_ok=True)
    password_file = directory / "postgres.password"
    password_file.write_text(password)
    as_user: dict[str, object] = {}
    if os.geteuid() == 0:
        account = pwd.getpwnam(_USER)
        data.mkdir()
        for path in (data, password_file):
            shutil.chown(path, account.pw_uid, account.pw_gid)
        as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    initdb = [str(binaries / "initdb"), f"--pgdata={data}", f"--username={_USER}", "--auth=scram-sha-256"]
    initdb += [f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
    done = subprocess.run(initdb, capture_output=True, text=True, check=False, cwd="/", **as_user)  # type: ignore[call-overload]
    password_file.unlink()
    if done.returncode != 0:
        raise ServiceError(f"initdb failed: {done.stderr.strip()}")
    options = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": ""} | (settings or {})
    command = [str(binaries / "postgres"), "-D", str(data)]
    for key, value in options.items():
        command += ["-c", f"{key}={value}"]
    probe = [str(binaries / "pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={port}"]
    return Service(
        name="postgres",
        url=f"postgresql://{_USER}:{password}@127.0.0.1:{port}/postgres",
        command=command,
        log=directory / "postgres.log",
        ready=lambda: subprocess.run(probe, check=False).returncode == 0,
        user=_USER,
    ).start()
