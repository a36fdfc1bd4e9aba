"""The audit chain of either ledger: a line that was changed, taken out or cut off is found, by number."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from memory_runtime.stores.contracts import AuditEntry, Unit
from memory_runtime.surfaces.cli import main
from memory_runtime.tests.contract.conftest import ask, postgres_place, sqlite_place
from memory_runtime.tests.ledgers import Place

pytestmark = pytest.mark.integration


class Chain(NamedTuple):
    """A ledger, a way to tamper with its table, and `soma audit` on it."""

    place: Place
    tamper: Callable[[str], Any]
    soma: Callable[..., tuple[int, Any]]


@pytest.fixture(params=["sqlite", "postgres"])
def chain(
    request: pytest.FixtureRequest, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Chain]:
    monkeypatch.setenv("SOMA_EMBEDDING_PROVIDER", "hash")
    if request.param == "sqlite":
        place = sqlite_place(tmp_path / "data")
        monkeypatch.setenv("SOMA_DATA_DIR", str(tmp_path / "data"))

        def tamper(sql: str) -> None:
            with sqlite3.connect(tmp_path / "data" / "ledger.sqlite3") as connection:
                connection.execute(sql)
    else:
        dsn = request.getfixturevalue("database")
        place = postgres_place(dsn)
        monkeypatch.setenv("SOMA_MODE", "distributed")
        monkeypatch.setenv("POSTGRES_URL", dsn)

        def tamper(sql: str) -> None:
            ask(dsn, sql)

    def soma(*arguments: str) -> tuple[int, Any]:
        code = main(["audit", *arguments])
        printed = capsys.readouterr()
        text = printed.out or printed.err
        return code, json.loads(text) if text.startswith("{") else text

    yield Chain(place, tamper, soma)
    for ledger in place.opened:
        ledger.close()


def entry(number: int, tenant: str = "acme") -> AuditEntry:
    return AuditEntry(tenant, f"token@10.0.0.{number}", "delete", f"notes/{number}", 1.7e9 + number, {"größe": number})


async def write(chain: Chain, *numbers: int) -> None:
    ledger = chain.place.open()
    for number in numbers:
        await ledger.commit(Unit(audit=[entry(number), entry(number, "rival")]))
    await asyncio.to_thread(ledger.close)


async def on(chain: Chain, *arguments: str) -> tuple[int, Any]:
    return await asyncio.to_thread(chain.soma, *arguments)


async def test_a_whole_chain_is_whole_and_goes_on_after_what_was_noted(chain: Chain) -> None:
    await write(chain)
    assert await on(chain, "verify", "--json") == (0, {"whole": True, "lines": 0, "anchor": "0:"})
    await write(chain, 1, 2)
    code, first = await on(chain, "verify", "--json")
    assert (code, first["lines"]) == (0, 4)
    await write(chain, 3)
    code, words = await on(chain, "verify", "--anchor", first["anchor"])
    assert (code, "whole: 6 lines" in words) == (0, True)


async def test_the_newest_lines_are_listed_by_time_and_tenant(chain: Chain) -> None:
    await write(chain, 1, 2, 3)
    _, found = await on(chain, "list", "--tenant", "rival", "--limit", "2", "--json")
    assert [(one["number"], one["actor"], one["detail"]) for one in found["lines"]] == [
        (4, "token@10.0.0.2", {"größe": 2}),
        (6, "token@10.0.0.3", {"größe": 3}),
    ]
    code, words = await on(chain, "list", "--since", str(1.7e9 + 3))
    assert (code, words.count("notes/3"), words.count("\n")) == (0, 2, 2)
    assert (await on(chain, "list", "--since", "2200-01-01"))[1] == "no such lines\n"


@pytest.mark.parametrize(
    ("sql", "line", "why"),
    [
        ("UPDATE audit SET actor = 'nobody' WHERE number = 3", 3, "it was changed"),
        ("UPDATE audit SET at = at + 1 WHERE number = 1", 1, "it was changed"),
        ("DELETE FROM audit WHERE number = 4", 4, "it is missing"),
        ("DELETE FROM audit WHERE number = 1", 1, "it is missing"),
        ("UPDATE audit SET previous_hash = hash WHERE number = 5", 5, "it does not follow the line before it"),
    ],
)
async def test_what_was_changed_or_taken_out_is_found(chain: Chain, sql: str, line: int, why: str) -> None:
    await write(chain, 1, 2, 3)
    await asyncio.to_thread(chain.tamper, sql)
    assert await on(chain, "verify", "--json") == (1, {"whole": False, "line": line, "why": why})
    code, words = await on(chain, "verify")
    assert (code, words) == (1, f"the audit chain is broken at line {line}: {why}\n")


async def test_an_end_that_was_cut_off_is_found_by_the_line_that_was_noted(chain: Chain) -> None:
    await write(chain, 1, 2, 3)
    _, noted = await on(chain, "verify", "--json")
    await asyncio.to_thread(chain.tamper, "DELETE FROM audit WHERE number > 4")
    assert (await on(chain, "verify"))[0] == 0, "the chain alone cannot tell"
    code, found = await on(chain, "verify", "--anchor", noted["anchor"], "--json")
    assert (code, found["line"]) == (1, 5)
    await asyncio.to_thread(chain.tamper, "DELETE FROM audit")
    await write(chain, 4, 5, 6)
    code, found = await on(chain, "verify", "--anchor", noted["anchor"], "--json")
    assert code == 1


def test_bad_words_change_nothing_and_say_what_to_write(chain: Chain, tmp_path: Any) -> None:
    chain.place.open()
    for arguments, words in ((("verify", "--anchor", "7"), "NUMBER:HASH"), (("list", "--since", "soon"), "--since")):
        code, answer = chain.soma(*arguments)
        assert (code, words in answer) == (2, True)
    with pytest.raises(SystemExit) as caught:
        chain.soma("list", "--limit", "0")
    assert caught.value.code == 2
    if chain.place.kind == "sqlite":
        code, answer = chain.soma("verify", "--data-dir", str(tmp_path / "elsewhere"))
        assert (code, "there is no ledger" in answer) == (1, True)
