"""Stopped at any moment, or failed by the disk at any call: the same command ends the same."""

import numpy as np
import pytest

from tests.faults.harness import HOWS, KINDS, POINTS, Bench, spread

QUICK = [
    ("matrix", "ENOSPC"), ("matrix", "EINTR"), ("matrix", "full disk"),
    ("matrix", "SIGKILL within"), ("matrix", "SIGTERM"), ("side by side", "SIGTERM"),
    ("annotation", "EIO"),
]  # fmt: skip
"""Of each kind of answer to a fault, and of each work, one; the others are much like these."""
LONG = [
    ("matrix", "EIO"), ("matrix", "SIGKILL after"), ("matrix", "SIGINT"),
    ("side by side", "SIGKILL within"), ("annotation", "SIGKILL within"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "kind"), [*QUICK, *(pytest.param(*each, marks=pytest.mark.slow) for each in LONG)]
)
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
