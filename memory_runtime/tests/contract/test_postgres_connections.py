"""How PostgreSQL is reached: DSN, password, TLS, poolers in transaction mode; each mistake names its setting."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from hack.cluster.errors import ClusterError
from hack.requirement import unavailable
from hack.services import Authority, Service, start_pgbouncer, start_pgpool, start_postgres
from memory_runtime.model.errors import Unavailable
from memory_runtime.settings import SettingsError
from memory_runtime.stores.contracts import Unit
from memory_runtime.stores.postgres import connecting, migrating
from memory_runtime.tests.contract.conftest import ask, named, open_directory, settings_for
from memory_runtime.tests.ledgers import DIM, Place, identity, put

pytestmark = pytest.mark.integration


def refused(open_it: Callable[[], Any], setting: str, secret: str) -> str:
    with pytest.raises(SettingsError) as caught:
        open_it()
    assert caught.value.setting == setting
    assert caught.value.remedy
    assert secret not in str(caught.value)
    return str(caught.value)


def test_a_dsn_that_cannot_be_right_names_the_setting_and_never_the_password(
    database: str, open_at: Callable[..., Place]
) -> None:
    parts = urlsplit(database)
    secret = parts.password or ""
    wrong = "wr0ngpass"
    for dsn in ("nonsense", "mysql://u:wr0ngpass@h/d", "postgresql://u:wr0ngpass@127.0.0.1:1", "http://[::1"):
        refused(lambda dsn=dsn: open_at(dsn).open(), "postgres_url", wrong)  # type: ignore[misc]
    bad = database.replace(secret, wrong)
    assert "password" in refused(lambda: open_at(bad).open(), "postgres_url", wrong)
    assert "no such database" in refused(lambda: open_at(named(database, "nowhere")).open(), "postgres_url", secret)
    with pytest.raises(Unavailable) as caught:
        open_at(f"postgresql://u:{wrong}@127.0.0.1:1/d").open()
    assert wrong not in str(caught.value)
    # of several hosts, one that answers is enough; SQLAlchemy's spelling is understood
    several = database.replace("@127.0.0.1:", "@127.0.0.1:1,127.0.0.1:").replace("postgresql:", "postgresql+asyncpg:")
    assert open_at(several).open().healthy


def test_a_database_that_would_lose_or_garble_is_refused(postgres: Service, open_at: Callable[..., Place]) -> None:
    ask(postgres.url, "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    ask(postgres.url, "CREATE DATABASE hasty")
    ask(postgres.url, "ALTER DATABASE hasty SET synchronous_commit = off")
    try:
        assert "UTF8" in refused(lambda: open_at(named(postgres.url, "latin")).open(), "postgres_url", "@")
        assert "synchronous_commit" in refused(
            lambda: open_at(named(postgres.url, "hasty")).open(), "postgres_url", "@"
        )
    finally:
        for name in ("latin", "hasty"):
            ask(postgres.url, f"DROP DATABASE {name}")


@pytest.fixture(scope="module")
def secure() -> Iterator[tuple[Service, Authority, Path]]:
    """A server that speaks TLS alone, and wants a client certificate of the same authority."""
    with open_directory() as directory:
        try:
            authority = Authority(directory / "ca")
            pair = authority.issue("server", ("localhost",))
            for path in (pair.certificate, pair.key, authority.certificate):
                shutil.chown(path, "postgres")
            (directory / "ca").chmod(0o755)
            pair.key.chmod(0o600)
            access = directory / "hba.conf"
            access.write_text("hostssl all all all scram-sha-256 clientcert=verify-ca\n")
            access.chmod(0o644)
            options = {
                "ssl": "on",
                "ssl_cert_file": str(pair.certificate),
                "ssl_key_file": str(pair.key),
                "ssl_ca_file": str(authority.certificate),
                "hba_file": str(access),
            }
            service = start_postgres(directory, settings=options)
        except ClusterError as error:
            unavailable(str(error))
        yield service, authority, directory
        service.stop()


def test_tls_verifies_host_and_authority_and_shows_a_client_certificate(
    secure: tuple[Service, Authority, Path], open_at: Callable[..., Place]
) -> None:
    service, authority, directory = secure
    by_name = service.url.replace("127.0.0.1", "localhost")
    client = authority.issue("client")
    stranger = Authority(directory / "other", "stranger").certificate
    good = {
        "postgres_ssl_mode": "verify-full",
        "postgres_ssl_root_cert": authority.certificate,
        "postgres_ssl_cert": client.certificate,
        "postgres_ssl_key": client.key,
    }
    migrating.migrate(settings_for(by_name, **good))
    assert open_at(by_name, **good).open().healthy
    in_the_dsn = (
        f"{by_name}?sslmode=verify-full&sslrootcert={authority.certificate}"
        f"&sslcert={client.certificate}&sslkey={client.key}"
    )
    assert open_at(in_the_dsn).open().healthy
    # the certificate is for localhost, not for the address
    assert open_at(service.url, **good | {"postgres_ssl_mode": "verify-ca"}).open().healthy
    refused(lambda: open_at(service.url, **good).open(), "postgres_ssl_root_cert", "@")
    foreign = good | {"postgres_ssl_root_cert": stranger}
    refused(lambda: open_at(by_name, **foreign).open(), "postgres_ssl_root_cert", "@")
    refused(lambda: open_at(by_name, **good | {"postgres_ssl_root_cert": directory / "no"}).open(),
            "postgres_ssl_root_cert", "@")  # fmt: skip
    other = authority.issue("second")
    refused(lambda: open_at(by_name, **good | {"postgres_ssl_key": other.key}).open(), "postgres_ssl_cert", "@")


def test_a_server_without_tls_is_not_spoken_to_in_the_clear_where_tls_is_required(
    database: str, open_at: Callable[..., Place]
) -> None:
    refused(lambda: open_at(database, postgres_ssl_mode="require").open(), "postgres_ssl_mode", "@")
    assert open_at(database, postgres_ssl_mode="disable").open().healthy


async def work(place: Place, *, pooled: bool | None) -> None:
    """Every kind of call, from several tasks at once: what a pooler breaks, it breaks here."""
    ledger = place.open()
    if pooled is not None:
        assert ledger._links.target.pooled is pooled
    await asyncio.gather(*(ledger.commit(Unit([put(n, importance=float(n))])) for n in range(40)))
    reads = [ledger.get(identity(n)) for n in range(40)] + [
        ledger.read(lambda view: (view.head(), view.facts(), view.counts())) for _ in range(20)
    ]
    found = await asyncio.gather(*reads)
    assert all(found)
    assert await ledger.read(lambda view: view.frequency("words", limit=50)) == 40
    assert sum(len(rows.ids) for rows in ledger.scan(DIM, batch=7)) == 40
    assert await ledger.exclusively(lambda view: view.head()) == 40
    assert await ledger.transact(lambda one: one.rebuild_importance("acme", lambda raw: 0.5, 2)) == 40
    other = place.open()
    other.catch_up()
    await other.commit(Unit([put(100)]))
    for _ in range(100):
        if ledger.head_seq == 41:
            break
        await asyncio.sleep(0.05)
    assert ledger.head_seq == 41
    assert not any(place.half_visible().values())


async def test_behind_pgbouncer_in_transaction_mode(
    postgres: Service, database: str, open_at: Callable[..., Place]
) -> None:
    with open_directory() as directory:
        try:
            bouncer = await asyncio.to_thread(start_pgbouncer, directory, postgres)
        except ClusterError as error:
            unavailable(str(error))
        place = open_at(named(bouncer.url, database.rpartition("/")[2]))
        try:
            await work(place, pooled=True)
        finally:
            for ledger in place.opened:
                ledger.close()
            bouncer.stop()


async def test_prepared_statements_are_allowed_behind_a_pooler_and_nothing_else_that_is_not_done_there(
    postgres: Service, database: str
) -> None:
    with open_directory() as directory:
        try:
            bouncer = await asyncio.to_thread(start_pgbouncer, directory, postgres)
        except ClusterError as error:
            unavailable(str(error))
        name = database.rpartition("/")[2]
        found = {}
        try:
            for url, said in itertools.product((bouncer.url, postgres.url), ("auto", "on", "off")):
                settings = settings_for(named(url, name), postgres_statement_cache=said)
                target = await connecting.probe(connecting.target(settings), settings)
                found[url == bouncer.url, said] = (target.pooled, target.prepares)
        finally:
            bouncer.stop()
    # the single-statement commit, time-outs of a session and notices go by `pooled`
    assert found == {
        (True, "auto"): (True, False),
        (True, "on"): (True, True),
        (True, "off"): (True, False),
        (False, "auto"): (False, False),
        (False, "on"): (False, True),
        (False, "off"): (True, False),
    }


async def test_behind_pgpool(postgres: Service, database: str, open_at: Callable[..., Place]) -> None:
    with open_directory() as directory:
        try:
            pool = await asyncio.to_thread(start_pgpool, directory, postgres)
        except ClusterError as error:
            unavailable(str(error))
        place = open_at(named(pool.url, database.rpartition("/")[2]))
        try:
            await work(place, pooled=None)
        finally:
            for ledger in place.opened:
                ledger.close()
            pool.stop()
