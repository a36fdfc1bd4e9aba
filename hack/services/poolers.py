"""Poolers before PostgreSQL, from Debian: PgBouncer in transaction mode, and Pgpool-II."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from hack.cluster.tools.debian import require
from hack.services.service import Service, answers, free_port

_USER = "postgres"


def start_pgbouncer(directory: Path, postgres: Service, *, pool_size: int = 4) -> Service:
    """Start PgBouncer in transaction mode before a running PostgreSQL; any database is reached by its name.

    `directory` must be one that PostgreSQL's own account reaches. The url has the server's user and password.

    Raises:
        ServiceError: when it cannot be started.
    """
    require(("pgbouncer",), "the PgBouncer tests")
    url, port = urlsplit(postgres.url), free_port()
    users = directory / "pgbouncer.users"
    users.write_text(f'"{url.username}" "{url.password}"\n')
    configuration = directory / "pgbouncer.ini"
    configuration.write_text(
        f"""[databases]
* = host=127.0.0.1 port={url.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 200
"""
    )
    _own(users, configuration)
    return Service(
        name="pgbouncer",
        url=f"postgresql://{url.username}:{url.password}@127.0.0.1:{port}/{url.path.strip('/')}",
        command=["/usr/sbin/pgbouncer", str(configuration)],
        log=directory / "pgbouncer.log",
        ready=lambda: answers(port),
        user=_USER,
    ).start()


def start_pgpool(directory: Path, postgres: Service, *, children: int = 16) -> Service:
    """Start Pgpool-II before a running PostgreSQL, one backend, connections kept for the next session.

    Raises:
        ServiceError: when it cannot be started.
    """
    require(("pgpool2",), "the Pgpool-II tests")
    url, port, control = urlsplit(postgres.url), free_port(), free_port()
    passwords = directory / "pool_passwd"
    passwords.write_text(f"{url.username}:TEXT{url.password}\n")
    access = directory / "pool_hba.conf"
    access.write_text("host all all 127.0.0.1/32 scram-sha-256\n")
    configuration = directory / "pgpool.conf"
    configuration.write_text(
        f"""listen_addresses = '127.0.0.1'
port = {port}
pcp_listen_addresses = '127.0.0.1'
pcp_port = {control}
unix_socket_directories = '{directory}'
pcp_socket_dir = '{directory}'
wd_ipc_socket_dir = '{directory}'
backend_clustering_mode = 'raw'
backend_hostname0 = '127.0.0.1'
backend_port0 = {url.port}
backend_weight0 = 1
enable_pool_hba = on
pool_passwd = 'pool_passwd'
num_init_children = {children}
max_pool = 1
connection_cache = on
pid_file_name = '{directory}/pgpool.pid'
logdir = '{directory}'
work_dir = '{directory}'
sr_check_period = 0
"""
    )
    _own(passwords, access, configuration, directory)
    return Service(
        name="pgpool",
        url=f"postgresql://{url.username}:{url.password}@127.0.0.1:{port}/{url.path.strip('/')}",
        command=["/usr/sbin/pgpool", "-n", "-f", str(configuration), "-a", str(access), "-D"],
        log=directory / "pgpool.log",
        ready=lambda: answers(port),
        user=_USER,
    ).start()


def _own(*paths: Path) -> None:
    if os.geteuid() == 0:
        for path in paths:
            shutil.chown(path, _USER)
