"""A session is the same after it was a file; a file that isn't one is refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.side_by_side.rounds_file import RoundsFileError, load, save
from tests.unit.benchmarks.side_by_side.sessions import made_session


@given(seed=st.integers(0, 5))
def test_a_session_survives(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    path = tmp_path_factory.mktemp("rounds") / "deeper" / "side_by_side.json"
    session = made_session(count=1, seed=seed)
    save(session, path)
    assert load(path) == session


def drop(record: dict[str, Any]) -> None:
    del record["rounds"]


def no_list(record: dict[str, Any]) -> None:
    record["rounds"] = "abc"


def no_number(record: dict[str, Any]) -> None:
    record["rounds"][0]["rate_before"] = "fast"


def unknown_usage(record: dict[str, Any]) -> None:
    record["rounds"][1]["usage"]["watts"] = 5


def no_round(record: dict[str, Any]) -> None:
    record["rounds"][0] = 7


def other_format(record: dict[str, Any]) -> None:
    record["format"] = "another"


@pytest.mark.parametrize("spoil", [drop, no_list, no_number, unknown_usage, no_round, other_format])
def test_a_file_that_is_no_session_is_refused(tmp_path: Path, spoil: Callable[[dict[str, Any]], None]) -> None:
    path = tmp_path / "rounds.json"
    save(made_session(count=1), path)
    record = json.loads(path.read_text())
    spoil(record)
    path.write_text(json.dumps(record))
    with pytest.raises(RoundsFileError, match=r"rounds\.json"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rounds.json"
    path.write_bytes(content)
    with pytest.raises(RoundsFileError):
        load(path)
    with pytest.raises(RoundsFileError):
        load(tmp_path / "missing.json")
