"""What docker and buildah would be asked to do, and what a person reads where neither can work."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from hack.images import ImageError, __main__, archive, base, engines
from hack.images.aptconfig import parse
from hack.images.layout import RECIPES, ROOT

REFERENCES = ("docker.io/library/soma-memory-runtime:dev", "docker.io/library/soma-memory-runtime:abc")
ARGUMENTS = {"BASE_IMAGE": "python:3.12-slim-bookworm"}
LABELS = {"org.opencontainers.image.version": "0.1.0"}
ORDER = engines.Order(RECIPES["soma-memory-runtime"], REFERENCES, Path("/wheels"), ARGUMENTS, LABELS)


def test_docker_builds_from_the_same_dockerfile_with_the_collected_wheels() -> None:
    assert engines.docker_build_command(ORDER) == [
        *("docker", "build", "--file", str(ROOT / "Dockerfile.runtime"), "--build-context", "wheels=/wheels"),
        *("--build-arg", "BASE_IMAGE=python:3.12-slim-bookworm", "--label", "org.opencontainers.image.version=0.1.0"),
        *("--tag", REFERENCES[0], "--tag", REFERENCES[1], str(ROOT)),
    ]


def test_docker_saves_both_references_to_one_archive() -> None:
    assert engines.docker_save_command(ORDER, Path("/out.tar")) == [
        "docker",
        "save",
        "--output",
        "/out.tar",
        *REFERENCES,
    ]


def test_docker_branch_collects_wheels_for_its_own_base() -> None:
    docker = engines.Docker()
    assert docker.base_image() == f"python:{docker.target().python}-slim-bookworm"


def test_buildah_keeps_the_healthcheck_and_has_no_network(tmp_path: Path) -> None:
    command = engines.Buildah(tmp_path).build_command(ORDER)
    assert command[command.index("--format") + 1] == "docker"
    assert command[command.index("--isolation") + 1] == "chroot"
    assert command[: command.index("buildah")] == ["unshare", "--mount", "--propagation", "private", "--net"]
    assert command[command.index("--root") + 1] == str(tmp_path / "root")


@pytest.mark.parametrize("dockerfile", [recipe.dockerfile for recipe in RECIPES.values()], ids=lambda path: path.name)
def test_dockerfiles_fetch_nothing_and_start_without_a_shell(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    assert "ARG BASE_IMAGE=python:3.12-slim-bookworm" in text
    assert "://" not in text.replace("http://127.0.0.1", "")
    assert not [word for word in ("apt-get", "curl ", "wget ", "ADD ") if word in text]
    for instruction in ("ENTRYPOINT", "CMD"):
        assert all(
            line.split(instruction, 1)[1].startswith(" [") for line in text.splitlines() if line.startswith(instruction)
        )


def test_unknown_engine_names_the_choices() -> None:
    with pytest.raises(ImageError, match="SOMA_IMAGE_ENGINE is auto, docker or buildah"):
        engines.choose("podman")


def test_docker_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(ImageError, match="no Docker engine answers"):
        engines.choose("docker")


def test_without_root_and_engine_the_program_ends_with_2_and_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(base.os, "geteuid", lambda: 1000)
    monkeypatch.setenv("SOMA_CACHE", str(tmp_path))
    assert __main__.main(["base"]) == 2
    message = capsys.readouterr().err.strip()
    assert "needs root" in message
    assert "start Docker" in message
    assert len(message.splitlines()) == 1


def test_without_apt_the_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base.shutil, "which", lambda _: None)
    with pytest.raises(ImageError, match="buildah are needed and there is no apt here"):
        base.install({"buildah": "buildah"})


def test_mirror_and_security_archive_come_from_apts_own_words() -> None:
    found = parse(
        "Debian|Debian|bookworm|main|scheme://mirror/debian/\n"
        "Debian|Debian|bookworm-updates|main|scheme://mirror/debian/\n"
        "Debian|Debian-Security|bookworm-security|main|scheme://mirror/security/\n"
        "Other|Other|stable|main|scheme://elsewhere/\n"
    )
    assert found is not None
    assert found.mirror == "scheme://mirror/debian/"
    assert found.lines[-1] == "deb scheme://mirror/security/ bookworm-security main"


def test_a_machine_of_another_distribution_has_no_debian_mirror() -> None:
    assert parse("Ubuntu|Ubuntu|noble|main|scheme://mirror/ubuntu/\n") is None


def docker_archive(path: Path, references: list[str]) -> Path:
    members = {
        "c0ffee.json": json.dumps({"config": {"User": "10001"}}).encode(),
        "one.tar": b"x" * 1000,
        "manifest.json": json.dumps(
            [{"Config": "c0ffee.json", "RepoTags": references, "Layers": ["one.tar"]}]
        ).encode(),
    }
    with tarfile.open(path, "w") as tar:
        for name, body in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return path


def test_archive_is_read_and_renamed_without_touching_its_layers(tmp_path: Path) -> None:
    source = docker_archive(tmp_path / "a.tar", ["one:dev"])
    archive.retag(source, tmp_path / "b.tar", ["two:dev", "two:hash"])
    before, after = archive.read("x", source), archive.read("x", tmp_path / "b.tar")
    assert (before.tags, after.tags) == (("one:dev",), ("two:dev", "two:hash"))
    assert (after.id, after.size) == (before.id, before.size) == ("sha256:c0ffee", 1000)


def test_half_an_archive_is_called_that(tmp_path: Path) -> None:
    path = tmp_path / "half.tar"
    path.write_bytes(docker_archive(tmp_path / "a.tar", ["one:dev"]).read_bytes()[:700])
    with pytest.raises(ImageError, match="not a whole docker-archive"):
        archive.read("x", path)


def test_image_is_named_in_full_whatever_docker_called_it(tmp_path: Path) -> None:
    image = archive.read("soma", docker_archive(tmp_path / "soma-abc.tar", ["soma:abc", "soma:dev"]))
    assert (image.ref, image.pinned_ref) == ("docker.io/library/soma:dev", "docker.io/library/soma:abc")
