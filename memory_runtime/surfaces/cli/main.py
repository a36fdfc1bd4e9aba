"""Entry point: parses, runs the command, turns every failure into one sentence and an exit code."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from memory_runtime.surfaces.cli.old_lines import settle
from memory_runtime.surfaces.cli.parser import build_parser
from memory_runtime.surfaces.cli.results import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, CommandFailed


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `soma`; the exit code is documented in `soma --help`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a terminal of another encoding, or a path that is no text, must not end what is done already
            stream.reconfigure(errors="backslashreplace")
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        settle(arguments)
        code: int = arguments.run(arguments)
    except CommandFailed as failure:
        print(f"soma: {failure}", file=sys.stderr)
        return failure.exit_code
    except BrokenPipeError:
        # `soma … | head`: the reader has what it wanted.
        sys.stderr.close()
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("soma: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except UnicodeEncodeError:
        print("soma: an argument holds bytes that are not UTF-8; correct it", file=sys.stderr)
        return EXIT_USAGE
    except Exception as error:  # a defect of ours must still read as a sentence
        print(f"soma: internal error: {type(error).__name__}: {error}; please report it", file=sys.stderr)
        return EXIT_FAILED
    return code
