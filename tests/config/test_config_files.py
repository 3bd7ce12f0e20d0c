"""Whole files: `good` with what they mean, `bad` with the exact messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.config.config_samples import as_data, problems, read_sources

HERE = Path(__file__).parent
GOOD = sorted((HERE / "good").glob("*.yaml"))
BAD = sorted((HERE / "bad").glob("*.yaml"))
ENVIRONMENT = {
    "WORKSPACE_ID": "ws-1",
    "INTERVAL": "30s",
    "PORT": "8000",
    "LIST": "[a, b]",
    "DIGITS": "012345678901",
}


def test_there_are_files() -> None:
    assert len(GOOD) >= 5
    assert len(BAD) >= 10


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_good(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    assert as_plain_json(as_data(read_sources(file.name, **ENVIRONMENT))) == json.loads(
        file.with_suffix(".json").read_text()
    )


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_bad(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    found = problems(file.name, **ENVIRONMENT)
    assert [str(problem) for problem in found] == file.with_suffix(".txt").read_text().splitlines()


def as_plain_json(data: object) -> object:
    return json.loads(json.dumps(data))
