"""The victim, started once."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.al_gym.annotate.projects import draw_scans
from tests.faults import harness


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[harness.Bench]:
    if shutil.which("gcc") is None or sys.platform != "linux":
        pytest.skip("faults need gcc, and a system that knows LD_PRELOAD and /proc")
    place = tmp_path_factory.mktemp("faults")
    roots = {
        "matrix": harness.draw(place / "images"),
        "annotation": draw_scans(Path(place / "scans")),
    }
    victim = harness.Victim(harness.build(place))
    yield harness.Bench(victim, place, roots)
    victim.close()
