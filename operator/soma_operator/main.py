"""The command `soma-operator`: reads the settings, starts the process, and says in one line why it cannot."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from soma_operator.policy.rules import InvalidPolicyError, Policy
from soma_operator.settings import InvalidSettingsError, OperatorSettings, describe

EXIT_USAGE = 2


def version() -> str:
    """Version of the installed distribution; `0+source` when run from a checkout."""
    try:
        return metadata.version("soma-memory-operator")
    except metadata.PackageNotFoundError:
        return "0+source"


def parser() -> argparse.ArgumentParser:
    """The command line: everything else is set in the environment, as a Deployment does."""
    made = argparse.ArgumentParser(
        prog="soma-operator",
        description="Runs AI memory services that are declared as SomaMemory resources.",
        epilog=describe(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"soma-operator {version()}")
    made.add_argument("--check", action="store_true", help="only check the settings, and leave")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """0: stopped when asked to; 1: failed; 2: bad settings or arguments."""
    arguments = parser().parse_args(argv)
    try:
        settings = OperatorSettings.from_environment(os.environ)
    except InvalidSettingsError as error:
        print(f"soma-operator: {error}", file=sys.stderr)  # noqa: T201 logging is not configured yet
        return EXIT_USAGE
    try:
        policy = read_policy(settings.policy_file)
    except InvalidPolicyError as error:
        print(f"soma-operator: SOMA_OPERATOR_POLICY_FILE={settings.policy_file}: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE
    if arguments.check:
        return 0
    return _run(settings, policy)


def read_policy(path: str) -> Policy:
    """The policy in force; raises InvalidPolicyError, as to go on without it would allow what it forbids."""
    if not path:
        return Policy()
    try:
        return Policy.parse(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidPolicyError(f"cannot be read: {error.strerror if isinstance(error, OSError) else error}") from None


def _run(settings: OperatorSettings, policy: Policy) -> int:
    # Imported late: --help and bad settings must not pay for kopf.
    from soma_operator import handlers
    from soma_operator.cluster.connection import source
    from soma_operator.process import OperatorProcess
    from soma_operator.telemetry.logs import configure

    configure(settings)
    log = logging.getLogger("soma_operator")
    log.info(
        "starting", extra={"version": version(), "identity": settings.identity, "runtime_image": settings.runtime_image}
    )
    try:
        source()
        handlers.run(OperatorProcess(settings, policy, f"soma-operator/{version()}"))
    except KeyboardInterrupt:
        return 0
    except Exception as error:
        # One clear line for people; the traceback only for those who debug.
        log.log(logging.ERROR, "stopped: %s", error, exc_info=log.isEnabledFor(logging.DEBUG))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
