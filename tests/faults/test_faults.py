"""Stopped at any moment, or failed by the disk at any call: the same command ends the same."""

import numpy as np
import pytest

from tests.faults.harness import HOWS, KINDS, POINTS, Bench, spread

QUICK = [
    ("matrix", kind) for kind in KINDS
] + [("side by side", "SIGTERM"), ("side by side", "SIGKILL within"), ("annotation", "EIO"),
     ("annotation", "SIGKILL within")]  # fmt: skip


@pytest.mark.parametrize(("what", "kind"), QUICK)
def test_a_fault_changes_nothing(bench: Bench, what, kind):
    """At a call of the middle half, another one for every kind."""
    _, count = bench.uninterrupted(what)
    place = np.random.default_rng([list(KINDS).index(kind), list(HOWS).index(what)]).uniform()
    bench.survives(what, kind, 1 + int(count * (0.25 + place / 2)))


@pytest.mark.slow
@pytest.mark.parametrize("what", POINTS)
@pytest.mark.parametrize("kind", KINDS)
def test_faults_change_nothing_wherever_they_come(bench: Bench, what, kind):
    """Spread over all calls, so that each part of a run is hit by each kind."""
    _, count = bench.uninterrupted(what)
    for at in spread(kind, POINTS[what] // len(KINDS), count):
        bench.survives(what, kind, at)
