"""Mutants of what is shared: PostgreSQL, the cache in Redis, the events that leave."""

from __future__ import annotations

from typing import Final

from hack.mutation.mutant import Mutant

_CACHE: Final = "memory_runtime/tests/stores/test_read_cache.py"
_FAULTS: Final = "memory_runtime/tests/stores/test_keyvalue_faults.py"
_MARKED: Final = "memory_runtime/tests/stores/test_marked_entries.py"
_READING: Final = "memory_runtime/engine/cache/reading.py"
_RELAY: Final = "memory_runtime/tests/unit/test_events_relay.py"
_FLEET: Final = "memory_runtime/tests/contract"
_FINITE: Final = f"{_FLEET}/test_finite_numbers.py::test_no_path_of_a_ledger_stores_a_number_that_is_none"
_INGEST: Final = "memory_runtime/tests/unit/test_events_ingest.py"
_EVENTS: Final = "memory_runtime/tests/integration/events/test_events_fuzz.py"
_POISON: Final = "memory_runtime/tests/integration/events/test_events_poison.py"

_ROWS: Final = "memory_runtime/stores/rows.py"
_COLUMN: Final = "memory_runtime/tests/contract/test_every_column.py"

_LOST: Final = f"{_FLEET}/test_lost_history.py"
_FAILOVER: Final = f"{_FLEET}/test_postgres_failover.py"
_COMMITTING: Final = "memory_runtime/stores/postgres/committing.py"

TOGETHER: Final = (
    Mutant(
        "follower-compares-numbers",
        "A replica notices that the change at its sequence is another one than it applied.",
        "memory_runtime/stores/postgres/tracking.py",
        "        if found.head.seq < self.applied or _differ(found.asked, self._history):\n",
        "        if found.head.seq < self.applied:\n",
        f"{_LOST}::test_rows_put_in_place_under_a_running_server_are_noticed_by_their_token[follower-alone]",
    ),
    Mutant(
        "another-server-same-lineage",
        "A fail-over, a restored volume and a clone begin another line of history.",
        "memory_runtime/stores/postgres/lineage.py",
        "    if not same and not in_recovery:\n",
        "    if lineage is None:\n",
        f"{_LOST}::test_a_restored_volume_and_a_clone_are_lines_of_their_own",
    ),
    Mutant(
        "cache-of-any-lineage",
        "What was cached in another line of history is not found again.",
        _READING,
        'f"{lineage}/{generation}"',
        'f"{generation}"',
        "memory_runtime/tests/unit/test_cache_lineage.py::test_another_line_of_history_is_another_key_space",
    ),
    Mutant(
        "event-id-without-token",
        "No event's id stands for two facts, whatever was restored.",
        "memory_runtime/events/codec.py",
        "            told.append(change.history or self.line_of(change).id)\n",
        "            pass\n",
        "memory_runtime/tests/unit/test_events_codec.py::test_an_events_id_is_of_its_ledger_its_seq_and_its_history",
    ),
    Mutant(
        "abandoned-future-applied",
        "What an origin's abandoned future tells comes too late, whenever it comes.",
        "memory_runtime/stores/postgres/states.py",
        "        if abandoned(lines.items(), of.epoch, of.seq):\n",
        "        if False:\n",
        f"{_FLEET}/test_ledger_contract.py"
        "::test_of_two_lines_of_an_origin_the_later_one_stands_and_an_abandoned_future_is_late[postgres]",
    ),
    Mutant(
        "warning-at-commit-ignored",
        "A commit whose wait for the synchronous standby was cancelled is not acknowledged.",
        _COMMITTING,
        "        if self._link.warnings and transaction.touched:\n",
        "        if False:\n",
        f"{_FAILOVER}::test_a_commit_whose_wait_for_the_standby_was_cancelled_is_not_acknowledged[with the turn]",
    ),
    Mutant(
        "warning-at-one-statement-ignored",
        "The same holds for a commit of one statement.",
        _COMMITTING,
        "            if self._link.warnings and not self._is_durable(self._unreplicated()):\n",
        "            if False:\n",
        f"{_FAILOVER}::test_a_commit_whose_wait_for_the_standby_was_cancelled_is_not_acknowledged[one statement]",
    ),
    Mutant(
        "change-feed-drops-the-pin",
        "What one replica pins is pinned on every replica.",
        _ROWS,
        "        pinned=bool(found[10]),\n",
        "",
        f"{_COLUMN}::test_the_change_feed_tells_every_column",
    ),
    Mutant(
        "request-id-always-replayed-in-the-fleet",
        "A request id's reply is not repeated once its memory is another, whichever replica is asked.",
        "memory_runtime/stores/postgres/writing.py",
        "if not unit.idempotency.implicit or _stands(work, receipts, unit.idempotency.at):",
        "if receipts:",
        f"{_FLEET}/test_ledger_contract.py::test_a_request_id_is_answered_again_only_while_its_memory_is_as_it_left_it",
    ),
    Mutant(
        "delete-keeps-the-versions-in-the-fleet",
        "What is deleted on PostgreSQL cannot be read at a past moment either.",
        "memory_runtime/stores/postgres/writing.py",
        "    work.past.append(Erased(state.id))\n",
        "",
        f"{_FLEET}/test_history.py::test_a_delete_erases_what_the_memory_was",
    ),
    Mutant(
        "scan-drops-the-pin",
        "A pin survives a restart, and reaches the vector store.",
        _ROWS,
        "        pinned if any(pinned) else (),\n",
        "        (),\n",
        f"{_COLUMN}::test_load_scan_and_some_tell_every_column",
    ),
    Mutant(
        "fusion-drops-the-pin",
        "A pinned memory does not fade in hybrid recall.",
        _ROWS,
        "importance, channels, bool(pinned))",
        "importance, channels)",
        f"{_COLUMN}::test_hybrid_recall_reads_every_column",
    ),
    Mutant(
        "cache-believes-a-lesser-entry",
        "What another version cached without a field that this one knows is no memory.",
        "memory_runtime/engine/cache/entries.py",
        "fields.keys() != _WHOLE or ",
        "",
        f"{_COLUMN}::test_the_read_cache_gives_back_every_column",
    ),
    Mutant(
        "stale-entry-believed",
        "A cache that comes back with old contents resurrects nothing.",
        _READING,
        "        return self._changes.current(keys, order, self._follower.applied_seq)\n",
        "        return True\n",
        f"{_CACHE}::test_old_contents_of_redis_resurrect_nothing",
    ),
    Mutant(
        "write-leaves-its-entry",
        "What a replica deleted is not read from the cache by one that lags.",
        _READING,
        "                await self._entries.outdate(keys, order)\n",
        "                pass\n",
        f"{_CACHE}::test_replicas_share_entries_and_one_that_lags_gives_nothing_that_another_deleted",
    ),
    Mutant(
        "old-fill-after-a-write",
        "A reader that is late brings no replaced value back into the read cache.",
        "memory_runtime/stores/redis/marked.py",
        "    redis.call('SET', key, ARGV[i], 'PX', ttl)\n",
        "    redis.call('DEL', key)\n",
        f"{_MARKED}::test_after_a_write_nothing_older_comes_in",
    ),
    Mutant(
        "outcome-unknown-unmarked",
        "While nobody knows whether a write is durable, the read cache does not answer for it.",
        _READING,
        "                self._background(self._mark(self._touched(one, touched)))\n",
        "                pass\n",
        f"{_MARKED}::test_while_a_commits_outcome_is_not_known_readers_are_sent_to_the_ledger",
    ),
    Mutant(
        "record-entry-left-at-an-update",
        "A write takes the entry of its memory out of Redis, unless that memory never was there.",
        _READING,
        "                keys[_record_key(space, write.scope, write.id.bytes)] = None\n",
        "                pass\n",
        f"{_CACHE}::test_a_new_memory_costs_redis_its_coordinate_and_an_update_its_record_too",
    ),
    Mutant(
        "entry-of-another-tenant",
        "What the cache holds is given to its own tenant only.",
        _READING,
        " or record.scope != scope or record.id.bytes != identity:\n",
        ":\n",
        f"{_CACHE}::test_nothing_crosses_tenants_even_if_an_entry_is_put_under_anothers_key",
    ),
    Mutant(
        "fill-beside-a-mark",
        "A reader that is late brings no deleted value back into the cache.",
        "memory_runtime/stores/redis/marked.py",
        "  if kind == '!' then return 0 end\n",
        "",
        f"{_FAULTS}::test_a_late_reader_of_the_hybrid_brings_nothing_old_back",
    ),
    Mutant(
        "two-writers-settle",
        "Of two writers at once neither puts its value into the cache: which of them was last is not known.",
        "memory_runtime/stores/redis/marked.py",
        "(others == '' and '!' or '!*' .. others) .. ARGV[1]",
        "'!' .. ARGV[1]",
        f"{_FAULTS}::test_writers_at_once_leave_in_redis_what_postgresql_has",
    ),
    Mutant(
        "relay-forgets-what-was-left",
        "A sink is given again what it did not take.",
        "memory_runtime/events/relay.py",
        "        await self._advance(taken)\n",
        "        await self._advance(changes[-1].seq)\n",
        f"{_RELAY}::test_what_a_sink_left_out_comes_again",
    ),
    Mutant(
        "sink-does-not-hold-the-outbox",
        "No change is trimmed that a sink has not had.",
        "memory_runtime/events/relay.py",
        "            transaction.advance_sink(self.sink.name, 0, self._clock())\n",
        "            pass\n",
        f"{_RELAY}::test_a_sink_keeps_the_outbox_from_being_trimmed",
    ),
    Mutant(
        "infinity-stored-in-postgresql",
        "No path stores a number that is none.",
        "memory_runtime/stores/postgres/writing.py",
        "        check_put(write, norm)\n",
        "",
        f"{_FINITE}[postgres-inf]",
    ),
    Mutant(
        "poison-stops-a-sink",
        "A change that a sink cannot take holds up no other.",
        "memory_runtime/events/relay.py",
        "        taken = await self._blame.deliver(changes)\n",
        "        taken = await self.sink.deliver(changes)\n",
        f"{_RELAY}::test_a_change_that_the_sink_cannot_take_is_set_aside_and_the_others_go_on",
    ),
    Mutant(
        "poison-passed-over-before-it-is-kept",
        "What a sink cannot take is on the dead-letter topic before the cursor passes it.",
        "memory_runtime/events/blame.py",
        "        await self._set_aside(self._sink.name, change, reason, in_words(error))\n",
        "        try:\n            await self._set_aside(self._sink.name, change, reason, in_words(error))\n"
        "        except Exception:\n            pass\n",
        f"{_RELAY}::test_nothing_is_passed_over_before_it_is_kept",
    ),
    Mutant(
        "encoding-failure-stops-the-relay",
        "What cannot be made an event is a dead letter, and the relay goes on.",
        "memory_runtime/events/kafka_sink.py",
        "            except Exception as error:\n                # nothing that is wrong with one change",
        "            except Poison as error:\n                # nothing that is wrong with one change",
        f"{_POISON}::test_a_defect_of_the_encoder_costs_one_change",
    ),
    Mutant(
        "poison-event-ends-the-batch",
        "An event that cannot be applied costs the others of its batch nothing.",
        "memory_runtime/engine/ingesting.py",
        "            if len(units) == 1:\n                return [error]\n",
        "            raise\n",
        f"{_INGEST}::test_a_batch_that_fails_as_a_whole_is_halved_until_the_culprit_is_alone",
    ),
    Mutant(
        "poison-event-ends-the-consumer",
        "No event ends the process that consumes it.",
        "memory_runtime/events/consumer.py",
        "            if len(events) == 1:\n",
        "            raise\n            if len(events) == 1:\n",
        f"{_EVENTS}::test_a_defect_that_one_event_meets_costs_the_others_nothing",
    ),
    Mutant(
        "relay-without-a-lease",
        "Of several replicas one relays.",
        "memory_runtime/events/relay.py",
        "        if not await self._lease.hold():\n",
        "        if self._lease is None:\n",
        f"{_RELAY}::test_one_of_two_replicas_relays_and_the_other_takes_over",
    ),
    Mutant(
        "turn-not-taken",
        "seq is the order of commits, whichever replica commits.",
        "memory_runtime/stores/postgres/transacting.py",
        'TURN: Final = "SELECT 1 FROM ledger_head FOR UPDATE"',
        'TURN: Final = "SELECT 1 FROM ledger_head"',
        f"{_FLEET}/test_postgres_replicas.py::test_a_long_transaction_of_another_writer_is_not_overtaken",
    ),
    Mutant(
        "lost-answer-taken-for-success",
        "A commit whose answer is lost is not acknowledged before it is known to be durable.",
        "memory_runtime/stores/postgres/committing.py",
        "            return not transaction.touched or self._is_durable(error)\n",
        "            return True\n",
        f"{_FLEET}/test_postgres_faults.py::test_a_commit_that_never_arrived_is_made_again_and_done_once",
    ),
    Mutant(
        "lost-answer-taken-for-failure",
        "A commit whose answer is lost is not made twice.",
        "memory_runtime/stores/postgres/committing.py",
        "            return not transaction.touched or self._is_durable(error)\n",
        "            return False\n",
        f"{_FLEET}/test_postgres_faults.py::test_a_commit_whose_answer_is_lost_is_acknowledged_once_it_is_known_to_be_durable",
    ),
    Mutant(
        "statement-lost-taken-for-success",
        "A statement that is its own transaction is asked after like a commit.",
        "memory_runtime/stores/postgres/committing.py",
        "            if not self._is_durable(error):\n                return None\n",
        "",
        f"{_FLEET}/test_postgres_faults.py::test_a_commit_that_never_arrived_is_made_again_and_done_once",
    ),
    Mutant(
        "late-statement-not-fenced",
        "What was found not to be durable does not become durable afterwards.",
        "memory_runtime/stores/postgres/committing.py",
        '                session.do("UPDATE ledger_head SET seq = seq")\n',
        "                pass\n",
        f"{_FLEET}/test_postgres_faults.py::test_a_statement_that_arrives_after_its_writer_has_given_it_up_does_nothing",
    ),
    Mutant(
        "cut-off-and-answering",
        "A replica that cannot follow the ledger answers nothing, be it all in its index and in Redis.",
        "memory_runtime/stores/postgres/ledger.py",
        "links.session(proven=bool(self.ailment))",
        "links.session()",
        f"{_FLEET}/test_postgres_faults.py"
        "::test_a_replica_that_is_cut_off_answers_nothing_not_even_what_needs_no_question",
    ),
    Mutant(
        "head-not-compared",
        "Who writes without having waited for the turn writes only what nobody has changed since it was read.",
        "memory_runtime/stores/postgres/flushing.py",
        ' WHERE xmin = {bound(work.version)}::xid RETURNING 1"',
        ' RETURNING 1"',
        f"{_FLEET}/test_postgres_replicas.py"
        "::test_what_another_replica_writes_between_a_look_and_its_statement_is_not_overwritten",
    ),
)
