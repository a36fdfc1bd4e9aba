"""Mutants of the operator: who may have it do what, and what one namespace can do to another."""

from __future__ import annotations

from typing import Final

from hack.mutation.mutant import Mutant

_POLICY: Final = "operator/tests/unit/test_policy.py"
_PROBES: Final = "operator/tests/unit/test_dependencies.py"
_SHAPES: Final = "operator/tests/unit/test_desired_golden.py"
_OWNERSHIP: Final = "operator/tests/unit/test_ownership.py"
OPERATING: Final = (
    Mutant(
        "local-address-admitted",
        "The operator connects to nothing that is local, by whatever name.",
        "operator/soma_operator/policy/addresses.py",
        " for meaning in meanings(found) for network in (*_LOCAL, *self.refused))\n",
        " for meaning in [found] for network in (*_LOCAL, *self.refused))\n",
        f"{_POLICY}::test_an_address_is_judged_by_where_its_packets_go[::ffff:127.0.0.1]",
    ),
    Mutant(
        "bound-secret-sent",
        "A Secret that is bound to hosts goes to no other.",
        "operator/soma_operator/policy/judgement.py",
        "        found += _bound(memory, one, bound, [use for use in hosts if use.field.startswith(one.endpoint)])\n",
        "",
        f"{_POLICY}::test_the_owner_of_a_secret_says_where_it_may_be_sent_without_any_policy[pg.data.svc-False]",
    ),
    Mutant(
        "greedy-namespace",
        "Silent back ends of one namespace do not delay another's.",
        "operator/soma_operator/probes/turns.py",
        " if self._under_way[namespace] < self._per_namespace]\n",
        "]\n",
        f"{_PROBES}::test_turns_are_shared_between_namespaces_not_between_endpoints",
    ),
    Mutant(
        "bound-rounds-to-none",
        "A bound of bytes that a spec sets is never taken for none.",
        "operator/soma_operator/desired/runtime_settings.py",
        "max(1, quantity(text))",
        "quantity(text)",
        f"{_SHAPES}::test_a_bound_of_bytes_is_one_and_fits_the_ledger[0.0001k-1]",
    ),
    Mutant(
        "children-lost",
        "What ties an object to its memory is never left to others.",
        "operator/soma_operator/plan/drift.py",
        "    if any(path[: len(own)] == own for own in _BOOKKEEPING):\n        return False\n",
        "",
        f"{_OWNERSHIP}::test_what_ties_an_object_to_its_memory_is_never_ignored",
    ),
)
