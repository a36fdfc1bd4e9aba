"""PostgreSQL from Debian: a cluster of its own, on loopback, with a password."""

from __future__ import annotations

import atexit
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from hack.cluster.tools.debian import require
from hack.services.service import Service, ServiceError, free_port

_USER = "postgres"


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise ServiceError("PostgreSQL's initdb is not under /usr/lib/postgresql: install Debian's package postgresql")
    return found[-1].parent


def _home(directory: Path) -> Path:
    """Where data and password are: for root a folder of their own, which is removed when this process ends.

    PostgreSQL runs as an account of its own then, and pytest closes its folders to others at every start, also those
    that another pytest's server is using.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        return directory
    home = Path(tempfile.mkdtemp(prefix="soma-postgres-"))
    home.chmod(0o755)
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    return home


def start_postgres(directory: Path, *, settings: dict[str, str] | None = None) -> Service:
    """Start a fresh PostgreSQL with its log in `directory`; `settings` are added to its configuration.

    The service's url is a DSN of a superuser with a password that only this cluster knows.

    Raises:
        ServiceError: when it cannot be made or started.
    """
    if not sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        require(("postgresql",), "the PostgreSQL tests")
    binaries, port, password = _binaries(), free_port(), secrets.token_hex(16)
    home = _home(directory)
    data, password_file = home / "postgres", home / "postgres.password"
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
    url = f"postgresql://{_USER}:{password}@127.0.0.1:{port}/postgres"
    return _server(binaries, data, port, url, directory / "postgres.log", settings or {}).start()


def start_standby(primary: Service, directory: Path) -> Service:
    """Start a hot standby that streams from `primary`, whose copy it begins with; `promote` makes it the primary.

    Raises:
        ServiceError: when it cannot be made or started.
    """
    binaries, port = _binaries(), free_port()
    home = _home(directory)
    data, source = home / "standby", urlsplit(primary.url)
    as_user: dict[str, object] = {}
    if os.geteuid() == 0:
        account = pwd.getpwnam(_USER)
        data.mkdir(mode=0o700)
        shutil.chown(data, account.pw_uid, account.pw_gid)
        as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    backup = [str(binaries / "pg_basebackup"), f"--pgdata={data}", "--write-recovery-conf", "--checkpoint=fast"]
    backup += ["--no-sync", f"--dbname=host=127.0.0.1 port={source.port} user={_USER} application_name=standby"]
    environment = {**os.environ, "PGPASSWORD": source.password or ""}
    done = subprocess.run(backup, capture_output=True, text=True, check=False, cwd="/", env=environment, **as_user)  # type: ignore[call-overload]
    if done.returncode != 0:
        raise ServiceError(f"pg_basebackup failed: {done.stderr.strip()}")
    url = f"postgresql://{_USER}:{source.password}@127.0.0.1:{port}/postgres"
    return _server(binaries, data, port, url, directory / "standby.log", {}).start()


def _server(binaries: Path, data: Path, port: int, url: str, log: Path, settings: Mapping[str, str]) -> Service:
    options = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": "", **settings}
    command = [str(binaries / "postgres"), "-D", str(data)]
    for key, value in options.items():
        command += ["-c", f"{key}={value}"]
    probe = [str(binaries / "pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={port}"]
    return Service(
        name="postgres",
        url=url,
        command=command,
        log=log,
        ready=lambda: subprocess.run(probe, check=False).returncode == 0,
        user=_USER,
    )


def _data_of(service: Service) -> Path:
    return Path(service.command[service.command.index("-D") + 1])


def keep_snapshot(service: Service) -> Path:
    """A copy of the stopped server's data directory, beside it: a snapshot of its volume."""
    data = _data_of(service)
    kept = data.with_name(f"{data.name}-{secrets.token_hex(4)}")
    subprocess.run(["cp", "-a", str(data), str(kept)], check=True)
    return kept


def restore_snapshot(service: Service, kept: Path) -> None:
    """Puts a snapshot in the place of the stopped server's data; the snapshot stays."""
    data = _data_of(service)
    shutil.rmtree(data)
    subprocess.run(["cp", "-a", str(kept), str(data)], check=True)


def start_clone(service: Service, kept: Path, directory: Path) -> Service:
    """Start another server on a copy of a snapshot of `service`, which may go on running.

    Raises:
        ServiceError: when it cannot be started.
    """
    port, copied = free_port(), kept.with_name(f"{kept.name}-clone")
    subprocess.run(["cp", "-a", str(kept), str(copied)], check=True)
    account, _, rest = service.url.rpartition("@")
    url = f"{account}@127.0.0.1:{port}/{rest.partition('/')[2]}"
    return _server(_binaries(), copied, port, url, directory / f"clone-{port}.log", {}).start()
