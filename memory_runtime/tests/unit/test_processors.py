"""A search takes no more threads than the process may keep busy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.requirement import unavailable
from memory_runtime.scoring import processors

VISIBLE = len(os.sched_getaffinity(0))
ASK = "from memory_runtime.scoring import processors; print(processors.available())"


def group(root: Path, path: str, **files: str) -> None:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content + "\n")


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("100000 100000", 1), ("50000 100000", 1), ("max 100000", VISIBLE), ("6400000 100000", VISIBLE), ("", VISIBLE)],
)
def test_the_quota_of_a_container_bounds_it(tmp_path: Path, quota: str, expected: int) -> None:
    group(tmp_path / "groups", "", cpu__max=quota)
    own = tmp_path / "own"
    own.write_text("0::/\n")
    assert processors.available(tmp_path / "groups", own) == expected


def test_a_quota_above_the_group_bounds_it_too(tmp_path: Path) -> None:
    group(tmp_path / "groups", "kubepods", cpu__max="100000 100000")
    group(tmp_path / "groups", "kubepods/pod", cpu__max="max 100000")
    own = tmp_path / "own"
    own.write_text("0::/kubepods/pod\n")
    assert processors.available(tmp_path / "groups", own) == 1


def test_the_first_version_of_control_groups_is_read(tmp_path: Path) -> None:
    group(tmp_path / "groups", "cpu,cpuacct/pod", cpu__cfs_quota_us="100000", cpu__cfs_period_us="100000")
    group(tmp_path / "groups", "memory/pod", cpu__cfs_quota_us="1", cpu__cfs_period_us="1")
    own = tmp_path / "own"
    own.write_text("5:memory:/pod\n2:cpu,cpuacct:/pod\n0::/\n")
    assert processors.available(tmp_path / "groups", own) == 1


def test_without_control_groups_the_affinity_mask_is_all_there_is(tmp_path: Path) -> None:
    assert processors.available(tmp_path / "none", tmp_path / "none") == VISIBLE
    one = min(os.sched_getaffinity(0))
    narrowed = subprocess.run(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, [{one}]); {ASK}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert narrowed.stdout.strip() == "1"


@pytest.fixture
def one_processor() -> Iterator[Path]:
    """A real control group with the quota of one processor, where one can be made."""
    folder = next((one for one in (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")) if one.is_dir()), None)
    if folder is None or os.geteuid() != 0:
        unavailable("making a control group needs root and /sys/fs/cgroup")
    made = folder / f"soma-test-{os.getpid()}"
    try:
        made.mkdir()
        names = {"cpu.max": "100000 100000", "cpu.cfs_quota_us": "100000"}
        settings = {name: value for name, value in names.items() if (made / name).exists()}
        for name, value in settings.items():
            (made / name).write_text(value)
        if not settings:
            made.rmdir()
            unavailable("the control groups here have no CPU controller")
    except OSError as error:
        unavailable(f"no control group can be made here: {error}")
    yield made
    made.rmdir()


def test_a_real_group_bounds_the_process_in_it(one_processor: Path) -> None:
    joined = f"open('{one_processor}/cgroup.procs', 'w').write(str(__import__('os').getpid())); {ASK}"
    asked = subprocess.run([sys.executable, "-c", joined], capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "1"
