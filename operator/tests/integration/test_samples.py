"""Every published sample is applied, by the two ways that people apply, and means the same to the operator."""

from __future__ import annotations

from pathlib import Path

import pytest

from hack.kube import Kubectl
from soma_operator.api import SomaMemory, SomaMemoryBackup

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = sorted((ROOT / "manifests/samples").glob("*.yaml"))
PARSERS = {"SomaMemory": SomaMemory.parse, "SomaMemoryBackup": SomaMemoryBackup.parse}


def test_there_are_samples_of_both_kinds() -> None:
    assert {path.stem.split("-")[0] for path in SAMPLES} == {"backup", "distributed", "embedded"}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_is_taken_and_parsed(namespace: Kubectl, sample: Path) -> None:
    for _ in range(2):
        namespace("apply", "--server-side", "--validate=strict", "-f", str(sample))
    (body,) = namespace.get("soma")["items"]
    assert PARSERS[body["kind"]](body).metadata.name == body["metadata"]["name"]
    assert body["metadata"]["generation"] == 1


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_is_taken_by_client_side_apply(namespace: Kubectl, sample: Path) -> None:
    assert "created" in namespace("apply", "--validate=strict", "-f", str(sample))
    assert "unchanged" in namespace("apply", "--validate=strict", "-f", str(sample))
