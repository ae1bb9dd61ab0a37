"""How fast we are, beside what people would use instead, in one process.

    python -m benchmarks.speed --rounds 15 --json speed.json
    python -m benchmarks.speed --device cuda --profile paper --json paper.json

Contestants take turns, in an order that is swapped every round, so that a machine that slows down
slows all; what counts is the ratio within a round. An idle machine is still needed: PyTorch's
threads wait for one another. ``benchmarks/timing/peers.py`` has the loops of others,
and ``benchmarks/timing/paper.py`` the paper's two runs on a GPU.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from benchmarks.matrix.provenance import device_name
from benchmarks.timing import paper
from benchmarks.timing.agent import agent_update
from benchmarks.timing.growth import growth
from benchmarks.timing.peak import fractions_of_peak
from benchmarks.timing.steps import environment_steps
from benchmarks.timing.turns import Report

Part = Literal["agent", "step", "peak", "growth"]


@dataclass(frozen=True)
class SpeedConfig:
    """Measure our code beside what people would use instead."""

    rounds: int = 15
    """Turns of each contestant; odd ones in the opposite order."""
    only: tuple[Part, ...] = ("agent", "step", "peak", "growth")
    """Parts to measure: a gradient step of the agent, a step of the environment, the fraction of
    the machine's peak, and how times grow."""
    threads: int | None = None
    """Of PyTorch; otherwise as it chooses."""
    device: str = "cpu"
    """Where the paper's runs are measured."""
    profile: Literal["embedded", "paper"] | None = None
    """Measure whole runs of this profile on the device, and nothing else."""
    whole: bool = False
    """With a profile: also run chestCT from beginning to end."""
    json: Path | None = None
    """File for every time."""


def measure(config: SpeedConfig) -> Report:
    """All parts that are asked for."""
    report = Report()
    if config.profile is not None:
        report.numbers = paper.measure(config.profile, config.device, config.whole)
        return report
    if "agent" in config.only:  # first: what was measured before would leave it warm memory
        report.comparisons.append(agent_update(config.rounds))
    if "step" in config.only:
        report.comparisons += environment_steps(config.rounds)
    if "peak" in config.only:
        report.numbers["fractions of the machine's peak"] = fractions_of_peak(config.rounds)
    if "growth" in config.only:
        comparisons, tables = growth(config.rounds)
        report.comparisons += comparisons
        report.numbers |= tables
    return report


def main(config: SpeedConfig) -> int:
    """Measure, print tables, write the file; returns the exit status.

    Raises:
        ValueError: too few rounds.
    """
    if config.rounds < 2:
        raise ValueError(f"rounds must be at least 2, not {config.rounds}")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    report = measure(config)
    where = device_name(config.device if config.profile else "cpu")
    print(f"{where}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    report.show()
    if config.json is not None:
        config.json.parent.mkdir(parents=True, exist_ok=True)
        config.json.write_text(json.dumps({"device": where, **report.as_dict()}, indent=1))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(SpeedConfig, description=__doc__)))
    except ValueError as error:
        sys.exit(f"benchmarks.speed: {error}")
