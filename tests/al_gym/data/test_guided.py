"""The fuzzer that coverage guides: that it reaches our code, and says what is wrong."""

import subprocess
import sys

import pytest

from tests.al_gym.data import guided

pytest.importorskip("atheris", reason="the guided fuzzer needs the extra fuzz")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["annotation csv", ".mhd", "DICOM", "PNG"])
def test_none_is_wrong(tmp_path, kind):
    (n_tried, before, after), wrong = guided.fuzzed(kind, 2000, 1, tmp_path)
    assert n_tried >= 2000
    assert after >= before > 30
    assert not wrong
    assert not list(tmp_path.iterdir())


BROKEN = """
import dataclasses, pathlib, sys
from tests.al_gym.data import guided, hostile

way = hostile.FORMATS["preset"]
hostile.FORMATS["preset"] = dataclasses.replace(way, read=lambda path: 1 // 0)
guided.child("preset", 100, 1, *map(pathlib.Path, sys.argv[1:]))
"""


def test_what_is_wrong_is_said_and_kept(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, tmp_path, place], capture_output=True, text=True
    )
    assert done.returncode
    assert "ZeroDivisionError" in done.stdout
    assert len(list(tmp_path.glob("preset-crash-*"))) == 1


def test_a_child_that_fails_is_no_success(tmp_path):
    counts, wrong = guided.fuzzed("no format", 100, 1, tmp_path)
    assert not counts
    assert "KeyError" in wrong
