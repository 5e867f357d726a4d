"""Spoiled files by fixed seeds: nothing but the project's own errors, within the reader's limits.

The coverage-guided run is `tests/fuzz/fuzz.py` (SECURITY.md).
"""

import sys
from pathlib import Path

import numpy as np
import pytest

from badnet_defense.errors import InputError
from badnet_defense.sandbox import client as isolation

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
from readers import READERS, good_files, spoiled

RUNS = 120
MEMORY = 2**29


@pytest.fixture(scope="module")
def originals():
    return good_files()


@pytest.mark.parametrize("name", READERS)
def test_good_files_are_read(name, originals, tmp_path, with_limits):
    path = tmp_path / name
    for content in originals[name]:
        path.write_bytes(content)
        READERS[name](path)


@pytest.mark.parametrize("name", READERS)
def test_spoiled_files_end_in_a_refusal_or_a_result(
    name, originals, tmp_path, with_limits, monkeypatch
):
    monkeypatch.setattr(isolation, "memory_limit", lambda: MEMORY)
    monkeypatch.setattr(isolation, "SECONDS", 2)
    with_limits(isolate=True)
    rng = np.random.default_rng(sorted(READERS).index(name))
    path, refused = tmp_path / name, 0
    for run in range(RUNS):
        whole = originals[name]
        path.write_bytes(spoiled(whole[run % len(whole)], whole, rng))
        try:
            READERS[name](path)
        except InputError as error:
            refused += 1
            message = str(error)
            assert str(path) in message and "\n" not in message
            assert "its reader failed" not in message, message
    assert refused
