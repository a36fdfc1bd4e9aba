"""Mutants of what one process does for itself: its ledger, its index, its snapshots."""

from __future__ import annotations

from typing import Final

from hack.mutation.mutant import Mutant

_FILE: Final = "memory_runtime/tests/unit/test_ledger.py"
_LEDGER: Final = "memory_runtime/tests/contract/test_ledger_contract.py"
_CONTRACT: Final = "memory_runtime/tests/contract/test_ledger_contract.py"
_DURABLE: Final = "memory_runtime/tests/unit/test_ledger_durability.py"
_INDEX: Final = "memory_runtime/tests/unit/test_scoring_index.py"
_SNAPSHOT: Final = "memory_runtime/tests/unit/test_scoring_snapshot.py"
_ENGINE: Final = "memory_runtime/tests/unit/test_engine.py"
_SAFETY: Final = "memory_runtime/tests/unit/test_safety_rules.py"
_CUT: Final = "memory_runtime/tests/integration/test_powercut.py"
_WRITER: Final = "memory_runtime/stores/sqlite/writer.py"
_WRITING: Final = "memory_runtime/stores/sqlite/writing.py"
_MADE: Final = "        content = changing.content_of(put, norm, normaliser_version, self._source(unit))\n"
_CHANGING: Final = "memory_runtime/stores/sqlite/changing.py"
_REPLIES: Final = "memory_runtime/stores/sqlite/replies.py"
_TASKS: Final = "memory_runtime/tests/unit/test_background_tasks.py"
_FAILED: Final = "                except Exception as error:\n"

ALONE: Final = (
    Mutant(
        "infinity-stored",
        "No path stores a number that is none.",
        _WRITING,
        "            check_put(write, norm)\n",
        "",
        "memory_runtime/tests/contract/test_finite_numbers.py"
        "::test_no_path_of_a_ledger_stores_a_number_that_is_none[sqlite-inf]",
    ),
    Mutant(
        "skip-fsync",
        "An acknowledged write is on the disk.",
        "memory_runtime/stores/sqlite/opening.py",
        '"PRAGMA synchronous=FULL"',
        '"PRAGMA synchronous=NORMAL"',
        f"{_CUT}::test_a_power_cut_loses_nothing_that_was_acknowledged",
    ),
    Mutant(
        "ack-before-commit",
        "Nobody is told before the commit.",
        _WRITER,
        '            reach("pre-commit")\n',
        "            for early, result, _ in results:\n                early.future.set_result(result)\n"
        "            results.clear()\n",
        f"{_DURABLE}::test_a_writer_is_told_after_the_commit_and_after_the_index",
    ),
    Mutant(
        "ack-before-apply",
        "Who was told finds what was stored.",
        _WRITER,
        "        self._publish(transaction)\n",
        "        for early, result, failure in results:\n            if failure is None:\n"
        "                early.future.set_result(result)\n"
        "        results = [one for one in results if one[2] is not None]\n        self._publish(transaction)\n",
        f"{_DURABLE}::test_a_writer_is_told_after_the_commit_and_after_the_index",
    ),
    Mutant(
        "apply-before-commit",
        "Nothing is seen before it is durable.",
        _WRITER,
        '            reach("pre-commit")\n',
        "            self._publish(transaction)\n",
        f"{_DURABLE}::test_the_index_hears_of_a_change_only_when_it_is_committed",
    ),
    Mutant(
        "half-a-unit",
        "A unit is all or nothing.",
        _WRITING,
        '                self.connection.execute("ROLLBACK TO unit")\n',
        "",
        f"{_LEDGER}::test_a_unit_is_all_or_nothing_and_its_neighbours_are_not_harmed[sqlite]",
    ),
    Mutant(
        "one-fails-all-fail",
        "A unit that fails does not take its group with it.",
        _WRITER,
        "        if len(jobs) > 1:\n",
        "        if len(jobs) > MAX_GROUP:\n",
        f"{_SAFETY}::test_one_unit_that_breaks_the_database_does_not_fail_the_others",
    ),
    Mutant(
        "reuse-stale-version",
        "Storing again is the next version.",
        _CHANGING,
        "    row, version, previous, deleted, text = found\n    version += 1\n",
        "    row, version, previous, deleted, text = found\n",
        f"{_LEDGER}::test_storing_a_coordinate_again_is_the_next_version_and_a_later_seq[sqlite]",
    ),
    Mutant(
        "idempotency-row-not-written",
        "A retry under the same key stores nothing twice.",
        _WRITING,
        "            replies.keep_reply(self.connection, unit.idempotency, receipts)\n",
        "            pass\n",
        f"{_LEDGER}::test_the_same_key_and_body_is_one_row_whoever_comes_first[sqlite]",
    ),
    Mutant(
        "a-task-ends-at-its-first-failure",
        "A background task that fails is begun again.",
        "memory_runtime/telemetry/supervision.py",
        f"{_FAILED}                    self._note(error)\n",
        f"{_FAILED}                    return self._note(error)\n",
        f"{_TASKS}::test_a_task_that_fails_at_any_await_is_begun_again_and_counted",
    ),
    Mutant(
        "a-failed-stop-keeps-the-ledger-open",
        "A shutdown reaches the ledger, whatever fails before.",
        "memory_runtime/telemetry/supervision.py",
        '            log.exception("%s failed", name)\n',
        '            log.exception("%s failed", name)\n            raise\n',
        f"{_TASKS}::test_a_part_that_fails_does_not_keep_the_next_from_its_turn",
    ),
    Mutant(
        "another-models-vector-kept",
        "Vectors of two models are never compared.",
        "memory_runtime/engine/restoring.py",
        "one.record.vector is None or one.record.model_revision not in ours]",
        "one.record.vector is None]",
        "memory_runtime/tests/unit/test_import_over.py::test_another_models_vectors_are_made_anew_and_a_clients_stay",
    ),
    Mutant(
        "any-error-is-damage",
        "A full, busy or read-only volume is no damage, and nobody is told to restore a backup.",
        "memory_runtime/stores/sqlite/ledger.py",
        "        self._damaged = self._damaged or opening.is_damage(error)\n",
        "        self._damaged = True\n",
        "memory_runtime/tests/unit/test_ledger_faults.py::test_what_passes_is_no_damage",
    ),
    Mutant(
        "long-numbers-run-together",
        "Two coordinates that float64 cannot tell apart never become one memory.",
        "memory_runtime/model/coordinates.py",
        "        if not _is_told_apart(part.strip(), value):\n",
        "        if value != value:\n",
        "memory_runtime/tests/unit/test_coordinates.py::test_a_number_that_float64_does_not_hold_is_refused",
    ),
    Mutant(
        "request-id-always-replayed",
        "A request id's reply is not repeated once its memory is another.",
        _REPLIES,
        "return None if key.implicit and not _stands(connection, receipts, key.at) else receipts",
        "return receipts",
        f"{_CONTRACT}::test_a_request_id_is_answered_again_only_while_its_memory_is_as_it_left_it",
    ),
    Mutant(
        "idempotency-body-not-compared",
        "A key that stood for another body is a conflict.",
        _REPLIES,
        "    if row[0] != key.body_hash:\n",
        "    if row[0] is None:\n",
        f"{_LEDGER}::test_the_same_key_with_another_body_is_a_conflict_also_after_restart[sqlite]",
    ),
    Mutant(
        "tail-skips-a-row",
        "A follower misses no change.",
        "memory_runtime/stores/sqlite/following.py",
        "WHERE seq > ? ORDER BY seq LIMIT ?",
        "WHERE seq > ? + 1 ORDER BY seq LIMIT ?",
        f"{_LEDGER}::test_tail_gives_every_change_once_and_says_when_it_no_longer_can[sqlite]",
    ),
    Mutant(
        "erase-not-in-outbox",
        "What is deleted cannot be read from the change stream.",
        _CHANGING,
        "    _erase_from_outbox(connection, previous)\n",
        "",
        f"{_LEDGER}::test_a_deleted_memory_stays_deleted_after_restart_and_its_payload_is_gone[sqlite]",
    ),
    Mutant(
        "delete-keeps-the-vector",
        "What is deleted leaves no vector.",
        _CHANGING,
        '    connection.execute("DELETE FROM vectors WHERE row = ?", (row,))\n',
        "",
        f"{_SAFETY}::test_a_delete_leaves_neither_vector_nor_words",
    ),
    Mutant(
        "delete-keeps-the-words",
        "What is deleted is not found by its words.",
        _CHANGING,
        '    fts.forget(connection, row, text)\n    connection.execute("DELETE FROM vectors',
        '    connection.execute("DELETE FROM vectors',
        f"{_SAFETY}::test_a_delete_leaves_neither_vector_nor_words",
    ),
    Mutant(
        "edges-outlive-memories",
        "An edge goes with its memory.",
        _CHANGING,
        "    _drop_edges(connection, tenant, namespace, coordinate)\n",
        "",
        f"{_SAFETY}::test_a_delete_takes_the_edges_with_it",
    ),
    Mutant(
        "hold-not-honoured",
        "What is under a legal hold is not deleted.",
        _CHANGING,
        "    if hold:\n",
        "    if hold > 1:\n",
        f"{_LEDGER}::test_a_memory_under_a_legal_hold_is_not_deleted[sqlite]",
    ),
    Mutant(
        "audit-not-chained",
        "No line can be taken out of the audit unseen.",
        _CHANGING,
        "        previous = digest\n",
        "",
        f"{_LEDGER}::test_the_audit_chain_breaks_where_a_line_is_changed[sqlite]",
    ),
    Mutant(
        "audit-line-not-hashed",
        "No line of the audit can be changed unseen.",
        "memory_runtime/stores/audit.py",
        "        if line_hash(last.hash, *line[1:7]) != line.hash:\n",
        "        if False:\n",
        "memory_runtime/tests/contract/test_audit_chain.py::test_what_was_changed_or_taken_out_is_found",
    ),
    Mutant(
        "normaliser-not-kept",
        "An importance that was fixed stays comparable after a restart.",
        _WRITER,
        "            transaction.seal()\n",
        "",
        f"{_LEDGER}::test_importance_is_fixed_at_commit_and_the_normaliser_goes_on_after_restart[sqlite]",
    ),
    Mutant(
        "failed-commit-moves-the-normaliser",
        "What was never stored changes no later importance.",
        _WRITER,
        "        self._normalisers.clear()\n",
        "",
        f"{_DURABLE}::test_a_commit_that_fails_is_not_acknowledged_and_leaves_no_trace",
    ),
    Mutant(
        "second-process-let-in",
        "One process at a time has the directory.",
        "memory_runtime/stores/sqlite/opening.py",
        "        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)\n",
        f"{_FILE}::test_a_second_process_is_kept_out_of_the_directory",
    ),
    Mutant(
        "tombstone-dropped-on-merge",
        "What is deleted while segments are merged stays deleted.",
        "memory_runtime/scoring/draft.py",
        "        codes.deaths(merged.records)[position[found]] = deaths[found]\n",
        "",
        f"{_SAFETY}::test_a_row_deleted_while_its_segment_is_merged_stays_deleted",
    ),
    Mutant(
        "deletes-not-in-the-snapshot",
        "What is deleted does not return with a snapshot.",
        "memory_runtime/scoring/snapshot.py",
        '    codes.deaths(segment.records)[np.array(entry["dead"], np.int64)] = 1\n',
        "",
        f"{_SAFETY}::test_a_row_deleted_before_a_snapshot_does_not_return_with_it",
    ),
    Mutant(
        "snapshot-not-checked",
        "A damaged snapshot is never served.",
        "memory_runtime/scoring/snapshot.py",
        "            if not good:\n",
        "            if good is None:\n",
        f"{_SNAPSHOT}::test_a_flipped_bit_is_never_served",
    ),
    Mutant(
        "filter-after-top-k",
        "Filters come before the best are chosen.",
        "memory_runtime/scoring/stretches.py",
        "        if request.types is None or kind in request.types:\n            profile =",
        "        if True:\n            profile =",
        f"{_SAFETY}::test_a_type_is_asked_for_before_the_best_are_chosen",
    ),
    Mutant(
        "tenant-not-in-the-index",
        "No recall shows another tenant's memory.",
        "memory_runtime/scoring/stretches.py",
        "    low, high = (int(place) for place in np.searchsorted(runs.partition, [partition, partition + 1]))\n",
        "    low, high = 0, len(runs.partition) if partition >= 0 else 0\n",
        f"{_INDEX}::test_a_thousand_small_tenants_share_a_segment_and_never_see_each_other",
    ),
    Mutant(
        "a-batch-mixes-queries",
        "A query is answered the same whoever else is in its batch.",
        "memory_runtime/engine/recalling.py",
        "        if self._hybrid(request):\n            return position\n",
        "",
        "memory_runtime/tests/unit/test_batch_property.py::test_a_batch_is_answered_as_each_of_its_queries_alone",
    ),
    Mutant(
        "types-without-a-deadline",
        "No step of a search goes on after its deadline.",
        "memory_runtime/scoring/stretches.py",
        "        request.check_time()\n        if request.types is None or kind in request.types:\n            profile",
        "        if request.types is None or kind in request.types:\n            profile",
        f"{_INDEX}::test_every_step_of_a_search_looks_at_the_clock",
    ),
    Mutant(
        "tenant-not-in-the-query",
        "No query shows another tenant's memory.",
        "memory_runtime/stores/sqlite/reading.py",
        'where = ["tenant = ?", "namespace = ?",',
        'where = ["tenant >= ?", "namespace = ?",',
        f"{_ENGINE}::test_nothing_crosses_scopes",
    ),
    Mutant(
        "min-seq-not-awaited",
        "Who asks with the seq of a write sees that write.",
        "memory_runtime/engine/engine.py",
        "        while self.follower.applied_seq < min_seq:\n",
        "        while self.follower.applied_seq < 0:\n",
        f"{_SAFETY}::test_a_recall_waits_for_the_write_that_it_names",
    ),
    Mutant(
        "any-token-will-do",
        "Without the token there is no answer.",
        "memory_runtime/access/tokens.py",
        "        if not hmac.compare_digest(_digest(token), expected):\n",
        "        if not hmac.compare_digest(_digest(token), _digest(token)):\n",
        "memory_runtime/tests/unit/test_access_tokens.py::"
        "test_missing_token_is_unauthenticated_and_a_wrong_one_as_the_era_says",
    ),
    Mutant(
        "any-later-schema-served",
        "A version serves on a later one's schema only where that says so.",
        "memory_runtime/stores/compatibility.py",
        "        return self.serves_back_to is not None and self.serves_back_to <= head\n",
        "        return True\n",
        "memory_runtime/tests/unit/test_migrations.py::test_after_a_later_version_took_something_away_this_one_refuses",
    ),
    Mutant(
        "retry-what-is-not-safe",
        "Only what is safe to repeat is repeated.",
        "memory_runtime/stores/resilience/failures.py",
        "        return self is Retry.SAFE or failure in {Failure.UNSENT, Failure.CONTENDED}\n",
        "        return True\n",
        "memory_runtime/tests/unit/test_resilience_guard.py::test_only_what_is_safe_to_repeat_is_repeated",
    ),
    Mutant(
        "late-event-undoes",
        "An event that comes late does not bring back what was deleted since.",
        _CHANGING,
        "    return moved.rowcount == 1\n",
        "    return True\n",
        f"{_CONTRACT}::test_a_late_event_undoes_nothing[sqlite]",
    ),
    Mutant(
        "new-id-stays-new",
        "An id that was looked for before its first put is not new to the second.",
        _WRITING,
        "            self._absent.remove(identity)\n",
        "            pass\n",
        f"{_CONTRACT}::test_a_put_that_is_refused_leaves_nothing_and_no_gap[sqlite]",
    ),
    Mutant(
        "seq-before-refusal",
        "What is refused takes no seq.",
        _WRITING,
        _MADE,
        f"        self._next_seq()\n{_MADE}        self._seq = None if self._seq is None else self._seq - 1\n",
        f"{_CONTRACT}::test_a_put_that_is_refused_leaves_nothing_and_no_gap[sqlite]",
    ),
    Mutant(
        "part-forgotten",
        "A search that is cut in parts has the rows of all parts.",
        "memory_runtime/scoring/plan.py",
        "            self.kept[query] += other.kept[query]\n",
        "            pass\n",
        f"{_INDEX}::test_a_large_segment_agrees_with_the_oracle_at_every_half_life[shared-None]",
    ),
)
