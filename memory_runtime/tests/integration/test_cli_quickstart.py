"""The quickstart's commands, as they are printed, against a real server."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("curl") is None, reason="the quickstart is told with curl: install it"),
]
QUICKSTART = Path(__file__).resolve().parents[3] / "docs" / "quickstart.md"


def test_curl_commands_of_the_quickstart_work_as_printed(serve, tmp_path):
    server = serve()
    (tmp_path / "soma-data").symlink_to(server.data_dir)
    (commands,) = (
        block for block in re.findall(r"```sh\n(.*?)```", QUICKSTART.read_text(), re.DOTALL) if "curl" in block
    )
    # curl grew --json in 7.82: what it stands for, for those that are older.
    portable = commands.replace("--json", "-H 'Content-Type: application/json' -d")
    script = portable.replace("localhost:9595", f"127.0.0.1:{server.http_port}")
    done = subprocess.run(["sh", "-euc", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    stored, _, recalled = done.stdout.partition("}")
    assert stored + "}" == '{"ok":true}'
    assert '"text":"Ann moved to Lisbon in May"' in recalled
    assert '"timestamp":1779235200.0' in recalled
