"""The words of memories: stems in a tsvector beside the record, scored by BM25 (k1 1.2, b 0.75) as FTS5 scores them.

Words are cut and folded by `model.words`, not by PostgreSQL's parser, so that both ledgers see the same ones; stems are
Porter's, and there are no stop words. A tsvector keeps 256 places of a word and 16,383 places in all: in longer texts a
word counts as if it came 255 times at most, and a phrase beyond the last place is not found as one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from memory_runtime.model import words
from memory_runtime.model.records import MemoryRecord, Scope
from memory_runtime.stores.contracts import KeywordHit
from memory_runtime.stores.postgres import filters, reading
from memory_runtime.stores.postgres.session import Bound, Session
from memory_runtime.stores.values import Visible

MAX_FOLDED_BYTES: Final = 400_000
"""Words beyond these bytes of a text are not indexed: a tsvector holds no more than a megabyte."""
MAX_WORD_BYTES: Final = 2000
UNFOLDED: Final = "octet_length(folded) <> char_length(folded)"
"""The texts whose words are not ASCII: an older release wrote them. A partial index holds them, and then no more."""
K1: Final = 1.2
B: Final = 0.75


def folded(text: str) -> words.Indexed:
    """The words of the text as they are kept: what a tsvector cannot hold is left out, and counted."""
    found = words.indexed(text)
    if len(found.words) <= MAX_FOLDED_BYTES:
        return found
    kept, size = [], 0
    for word in found.words.split(" "):
        size += len(word) + 1
        if size > MAX_FOLDED_BYTES:
            break
        if len(word) <= MAX_WORD_BYTES:
            kept.append(word)
    return words.Indexed(" ".join(kept), found.length)


class Phrase(NamedTuple):
    """Words in a row, their stems, and BM25's inverse document frequency of them in the whole ledger."""

    text: str
    stems: list[str]
    idf: float


class Asked(NamedTuple):
    """Phrases of which any may match, and the mean length of the ledger's texts."""

    phrases: list[Phrase]
    mean: float


def _ask(session: Session, texts: Sequence[str]) -> Asked:
    """Each text is one phrase. Cost: the number of matches of each, over all scopes."""
    found = session.rows(
        "SELECT t.text, ARRAY(SELECT l.lexeme FROM unnest(to_tsvector('soma_words', t.text)) l, unnest(l.positions) p"
        " ORDER BY p) AS stems, (SELECT count(*) FROM memories_text w"
        " WHERE w.words @@ phraseto_tsquery('soma_words', t.text)) AS n, h.documents, h.tokens"
        " FROM unnest($1::text[]) WITH ORDINALITY t(text, number), ledger_head h ORDER BY t.number",
        texts,
    )
    phrases = [
        # as FTS5: a word in more than half of all texts still counts, though for almost nothing
        Phrase(text, list(stems), max(math.log((documents - n + 0.5) / (n + 0.5)), 1e-6))
        for text, stems, n, documents, _ in found
        if stems and n and documents >= n
    ]
    mean = found[0]["tokens"] / found[0]["documents"] if found and found[0]["documents"] else 1.0
    return Asked(phrases, mean or 1.0)


def _branch(bound: Bound, phrase: Phrase, mean: float, where: str) -> str:
    """A query for (row, id, score) of one phrase's matches."""
    return (
        f"SELECT m.row, m.id, {bound(phrase.idf)}::float8 * f.tf * {K1 + 1}"  # noqa: S608 -- placeholders and constants
        f" / (f.tf + {K1} * ({1 - B} + {B} * t.length / {bound(mean)}::float8)) AS score"
        " FROM memories_text t JOIN memories m USING (row)"
        f" CROSS JOIN LATERAL (SELECT ({_frequency(bound, phrase.stems)})::float8 AS tf) f"
        f" WHERE t.words @@ phraseto_tsquery('soma_words', {bound(phrase.text)}) AND {where}"
    )


def _frequency(bound: Bound, stems: Sequence[str]) -> str:
    """How often the stems come in a row in `t.words`; one stem is looked up, and nothing else is unpacked."""
    if len(stems) == 1:
        marked = f"ts_filter(setweight(t.words, 'A', ARRAY[{bound(stems[0])}::text]), '{{a}}')"
        return f"SELECT cardinality(u.positions) FROM unnest({marked}) u"  # noqa: S608
    places = [f"(SELECT u.positions FROM unnest(t.words) u WHERE u.lexeme = {bound(one)}::text)" for one in stems]  # noqa: S608
    rest = " AND ".join(f"(p + {n})::smallint = ANY({one}::smallint[])" for n, one in enumerate(places[1:], 1))
    return f"SELECT greatest(count(*), 1) FROM unnest({places[0]}) p WHERE {rest}"  # noqa: S608


def _best(session: Session, asked: Asked, bound: Bound, where: str, limit: int) -> list[tuple[bytes, float]]:
    """Ids and scores, best first, then by id."""
    if not asked.phrases:
        return []
    branches = " UNION ALL ".join(_branch(bound, one, asked.mean, where) for one in asked.phrases)
    sql = (
        f"SELECT uuid_send(b.id), sum(b.score) AS score FROM ({branches}) b GROUP BY b.id"  # noqa: S608
        f" ORDER BY score DESC, b.id LIMIT {bound(limit)}"
    )
    return [(found[0], found[1]) for found in session.rows(sql, *bound.values)]


def by_words(
    session: Session,
    scope: Scope,
    term: str,
    *,
    exact: bool,
    case_sensitive: bool,
    limit: int,
    memory_type: str | None,
    filters: Mapping[str, Any] | None,
    now: float,
) -> list[MemoryRecord]:
    """See `RecordView.by_words`."""
    sought = words.indexed(term).words
    if not sought:
        return reading.by_characters(
            session,
            scope,
            term,
            case_sensitive=exact and case_sensitive,
            limit=limit,
            memory_type=memory_type,
            filters=filters,
            now=now,
        )
    if not exact:
        hits = _search(session, scope, words.phrases(term), [], limit, memory_type, filters, now)
    else:
        exactly = [("position({} IN ' ' || t.folded || ' ') > 0", f" {sought} ")]
        if case_sensitive:
            exactly.append(("position(normalize({}::text) IN normalize(m.text)) > 0", term.replace("\0", "\ufffd")))
        hits = _search(session, scope, [words.phrase(term)], exactly, limit, memory_type, filters, now)
    records = reading.by_ids(session, [hit.id for hit in hits])
    return [records[hit.id] for hit in hits if hit.id in records]


def any_word(
    session: Session,
    scope: Scope,
    text: str,
    *,
    limit: int,
    now: float,
    memory_type: str | None,
    filters: Mapping[str, Any] | None,
) -> list[KeywordHit] | None:
    """See `WordView.any_word`."""
    found = words.phrases(text)
    return _search(session, scope, found, [], limit, memory_type, filters, now) if found else None


def _search(
    session: Session,
    scope: Scope,
    phrases: Sequence[str],
    also: Sequence[tuple[str, str]],
    limit: int,
    memory_type: str | None,
    wanted: Mapping[str, Any] | None,
    now: float,
) -> list[KeywordHit]:
    """`also` are conditions with a place for their value."""
    bound = Bound()
    where = filters.in_scope(bound, scope, memory_type, wanted, now)
    where.extend(condition.format(bound(value)) for condition, value in also)
    found = _best(session, _ask(session, phrases), bound, " AND ".join(where), limit)
    return [KeywordHit(identity, -score) for identity, score in found]


def frequency(session: Session, word: str, *, limit: int) -> int:
    """See `WordView.frequency`."""
    text = words.phrase(word)
    if not text:
        return 0
    sql = (
        "SELECT count(*) FROM (SELECT 1 FROM memories_text"
        " WHERE words @@ phraseto_tsquery('soma_words', $1) LIMIT $2) found"
    )
    return int(session.value(sql, text, limit + 1))


def best_by_words(session: Session, visible: Visible, sought: Sequence[str], *, limit: int) -> dict[bytes, float]:
    """See `WordView.best_by_words`."""
    texts = [text for text in map(words.phrase, sought) if text]
    if not texts:
        return {}
    bound = Bound()
    where = filters.visible(bound, visible)
    return dict(_best(session, _ask(session, texts), bound, where, limit))


def word_scores(session: Session, word: str, rows: Sequence[int]) -> dict[int, float]:
    """See `WordView.word_scores`."""
    text = words.phrase(word)
    if not text or not rows:
        return {}
    asked = _ask(session, [text])
    if not asked.phrases:
        return {}
    bound = Bound()
    sql = _branch(bound, asked.phrases[0], asked.mean, f"t.row = ANY({bound(list(rows))}::bigint[])")
    return {found[0]: found[2] for found in session.rows(sql, *bound.values)}


def unfolded(session: Session) -> bool:
    """See `WordView.unfolded`."""
    return bool(session.value(f"SELECT EXISTS (SELECT 1 FROM memories_text WHERE {UNFOLDED})"))  # noqa: S608 -- a constant


def refold(session: Session, limit: int) -> int:
    """See `LedgerTransaction.refold_words`."""
    found = session.rows(
        f"SELECT t.row, m.text, t.length FROM memories_text t JOIN memories m USING (row) WHERE {UNFOLDED} LIMIT $1",  # noqa: S608
        limit,
    )
    made = [(row, folded(text)) for row, text, _ in found]
    session.do(
        "UPDATE memories_text t SET length = x.length, folded = x.folded"
        " FROM unnest($1::bigint[], $2::integer[], $3::text[]) x(row, length, folded) WHERE t.row = x.row",
        [row for row, _ in made],
        [one.length for _, one in made],
        [one.words for _, one in made],
    )
    grown = sum(one.length for _, one in made) - sum(before for *_, before in found)
    session.do("UPDATE ledger_head SET tokens = tokens + $1", grown)
    return len(made)
