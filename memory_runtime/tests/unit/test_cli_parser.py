"""What `soma` accepts, and that asking it for help costs nothing."""

import subprocess
import sys

import pytest

from memory_runtime.surfaces.cli.parser import build_parser


def test_help_imports_neither_numpy_nor_a_server():
    heavy = "{'numpy', 'fastapi', 'grpc', 'pydantic', 'sqlalchemy', 'uvicorn'}"
    program = (
        "import sys\n"
        "from memory_runtime.surfaces.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        f"print(sorted({heavy} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "exit codes:" in done.stdout


COMMANDS = (
    *("serve", "migrate", "healthcheck", "version", "store", "recall", "get", "keyword-search", "range", "stats"),
    *("link", "path", "neighbors", "store-bulk", "export-memories", "import-memories", "delete-many"),
)


@pytest.mark.parametrize(
    "command",
    COMMANDS,
)
def test_each_command_of_the_old_service_and_ours_has_help(command, capsys):
    with pytest.raises(SystemExit) as left:
        build_parser().parse_args([command, "--help"])
    assert left.value.code == 0
    assert "exit codes:" in capsys.readouterr().out
