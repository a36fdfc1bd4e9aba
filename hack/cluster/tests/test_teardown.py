"""Teardown trusts the journal and the mark, and touches nothing else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hack.cluster import down, processes, teardown
from hack.cluster.errors import ClusterError
from hack.cluster.journal import Journal, load
from hack.cluster.layout import layout
from hack.cluster.processes import MARK, identify


def _journal(name: str) -> Journal:
    place = layout(name)
    place.root.mkdir(parents=True)
    journal = Journal(place.state, name, "api")
    journal.save()
    return journal


def test_a_supervisor_whose_number_was_never_written_down_is_found_and_stopped(own_cache: Path) -> None:
    journal = _journal("crashed")
    journal.note_supervisor()  # the tool dies here, after the fork and before the second note
    orphan = subprocess.Popen(["sleep", "60"], env={**os.environ, MARK: str(layout("crashed").root)})
    assert down("crashed")
    assert orphan.wait(timeout=5) != 0
    assert not layout("crashed").root.exists()


def test_a_process_that_is_still_inside_execve_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real execve shows an empty environment for microseconds only, so /proc is a folder of ours here."""
    stat = "({name}) S 1 1 1 0 -1 {flags} " + "0 " * 12 + "77 4096 1 " + "0 " * 26 + "{env_end} 0"
    for pid, flags, environ in ((10, 0x400000, b""), (11, 0x208040, b""), (12, 0x400000, b"PATH=/bin\0")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} " + stat.format(name="a b", flags=flags, env_end=0))
        (tmp_path / str(pid) / "environ").write_bytes(environ)
    root = tmp_path / "cluster"
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    monkeypatch.setattr(processes.time, "sleep", lambda _: _finish_execve(tmp_path / "10", root))
    assert [process.pid for process in processes.marked(root)] == [10]


def _finish_execve(process: Path, root: Path) -> None:
    (process / "environ").write_bytes(f"{MARK}={root}\0".encode())


def test_a_pid_that_now_belongs_to_another_process_is_left_alone(own_cache: Path) -> None:
    journal = _journal("old")
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        journal.note_supervisor(stranger.pid, "12345")
        assert down("old")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_journal_of_an_earlier_boot_names_no_process(own_cache: Path) -> None:
    journal = _journal("rebooted")
    same_number = subprocess.Popen(["sleep", "60"])
    found = identify(same_number.pid)
    assert found is not None
    try:
        journal.boot = "another-boot"
        journal.note_supervisor(found.pid, found.start_time)
        assert down("rebooted")
        assert same_number.poll() is None
    finally:
        same_number.kill()
        same_number.wait()


def test_down_can_be_repeated_and_says_when_there_was_nothing(own_cache: Path) -> None:
    _journal("once")
    assert down("once")
    assert not down("once")


def test_a_journal_that_cannot_be_read_is_not_guessed_at(own_cache: Path) -> None:
    journal = _journal("torn")
    journal.path.write_text("{")
    with pytest.raises(ClusterError, match=r"state\.json cannot be read"):
        down("torn")
    assert layout("torn").root.exists()


def test_the_journal_is_on_disk_before_the_act(own_cache: Path) -> None:
    journal = _journal("noted")
    journal.note_cgroup(Path("/sys/fs/cgroup/nowhere/soma-noted"))
    journal.note_supervisor()
    read_back = load(journal.path)
    assert read_back is not None
    assert read_back.cgroups == ["/sys/fs/cgroup/nowhere/soma-noted"]
    assert read_back.supervisor == {"pid": None, "startTime": None}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_mount_inside_the_folder_is_never_emptied(own_cache: Path) -> None:
    _journal("mounted")
    treasure = own_cache / "treasure"
    treasure.mkdir()
    (treasure / "file").write_text("kept")
    target = layout("mounted").root / "data"
    target.mkdir()
    subprocess.run(["mount", "--bind", treasure, target], check=True)
    try:
        with pytest.raises(ClusterError, match="unmount it"):
            teardown.remove(layout("mounted"))
        assert (treasure / "file").read_text() == "kept"
    finally:
        subprocess.run(["umount", target], check=True)
