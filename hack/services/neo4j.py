"""Neo4j 5 community from its published artifacts: one server on loopback, Bolt with and without TLS on one port."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

import neo4j
from neo4j.exceptions import DriverError, Neo4jError

from hack.services.certificates import Authority
from hack.services.maven import jars
from hack.services.service import Service, free_port

VERSION = "5.26.0"
_ARTIFACTS = (f"org.neo4j.app:neo4j-server:{VERSION}", f"org.neo4j:neo4j:{VERSION}")
_OPENED = ("java.nio", "java.io", "sun.nio.ch", "java.util.concurrent")
_FIRST_PASSWORD = "neo4j"  # noqa: S105 -- what a fresh Neo4j has, and wants changed before anything else


def neo4j_jars() -> Path:
    """The folder of Neo4j's jars, collected on first use; raises ServiceError when they cannot be had."""
    return jars(f"neo4j-{VERSION}", _ARTIFACTS, wanted_for="the Neo4j tests")


def start_neo4j(directory: Path, *, authority: Authority | None = None) -> Service:
    """Start a fresh Neo4j below `directory`; with an `authority` its port speaks TLS to those who ask for it.

    The service's url is ``bolt://neo4j:PASSWORD@127.0.0.1:PORT`` with a password that only this server knows.

    Raises:
        ServiceError: when the artifacts cannot be had or it does not start.
    """
    libraries = neo4j_jars()
    port, password = free_port(), secrets.token_hex(16)
    home = directory / "neo4j"
    (home / "conf").mkdir(parents=True)
    values = _configuration(home, port) | ({} if authority is None else _tls(home, authority))
    (home / "conf" / "neo4j.conf").write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    opened = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED]
    # quick to start and small, rather than quick for long: this server lives for a minute
    java = ["java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *opened, "-cp", f"{libraries}/*"]
    where = [f"--home-dir={home}", f"--config-dir={home / 'conf'}"]
    address = f"127.0.0.1:{port}"
    service = Service(
        name="neo4j",
        url=f"bolt://neo4j:{password}@{address}",
        command=[*java, "org.neo4j.server.CommunityEntryPoint", *where],
        log=home / "neo4j.out",
        ready=lambda: _takes(address, password),
    )
    service.start(timeout=120)
    return service


def _configuration(home: Path, port: int) -> dict[str, object]:
    return {
        "server.default_listen_address": "127.0.0.1",
        "server.bolt.listen_address": f"127.0.0.1:{port}",
        "server.bolt.advertised_address": f"127.0.0.1:{port}",
        "server.http.enabled": "false",
        "server.https.enabled": "false",
        "server.memory.pagecache.size": "32m",
        "server.directories.data": home / "data",
        "server.directories.logs": home / "logs",
        "dbms.usage_report.enabled": "false",
    }


def _tls(home: Path, authority: Authority) -> dict[str, object]:
    served, folder = authority.issue("neo4j"), home / "certificates" / "bolt"
    folder.mkdir(parents=True)
    shutil.copy(served.certificate, folder / "public.crt")
    shutil.copy(served.key, folder / "private.key")
    return {
        "server.bolt.tls_level": "OPTIONAL",
        "dbms.ssl.policy.bolt.enabled": "true",
        "dbms.ssl.policy.bolt.base_directory": folder,
        "dbms.ssl.policy.bolt.client_auth": "NONE",
    }


def _takes(address: str, password: str) -> bool:
    """Whether it answers to its password; the first time, that password is set."""
    for given in (password, _FIRST_PASSWORD):
        try:
            with (
                neo4j.GraphDatabase.driver(
                    f"bolt://{address}", auth=("neo4j", given), connection_timeout=2, telemetry_disabled=True
                ) as driver,
                driver.session(database="system") as session,
            ):
                if given == password:
                    session.run("SHOW CURRENT USER").consume()
                    return True
                change = "ALTER CURRENT USER SET PASSWORD FROM $old TO $new"
                session.run(change, old=_FIRST_PASSWORD, new=password).consume()
        except neo4j.exceptions.AuthError:
            continue
        except (DriverError, Neo4jError, OSError):
            return False
    return False
