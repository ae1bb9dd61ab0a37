"""How PyTorch's threads should wait for one another, on a quiet machine and on a busy one.

    python -m benchmarks.waiting --rounds 2

The threads of a step wait at the end of every operation. GNU OpenMP, which PyTorch's builds for
Linux bring, lets them spin by default, as on a machine of one's own that is quickest; where another
process wants the core, the one that is waited for does not get it. ``OMP_WAIT_POLICY=PASSIVE``
and a small ``GOMP_SPINCOUNT`` let them sleep instead. All three are read once, when PyTorch is
loaded, so each measurement is a process of its own; settings take turns. "Busy" is one more process
that never sleeps.

https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import tyro
from tqdm import tqdm

WAITING: dict[str, dict[str, str]] = {
    "as it is": {},
    "PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin 0": {"GOMP_SPINCOUNT": "0"},
    "spin 10,000": {"GOMP_SPINCOUNT": "10000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
"""What is compared: environment variables."""
Task = Literal["head", "small3d", "small2d", "resnet50"]
TASKS: dict[Task, dict[str, Any]] = {
    "head": {"dataset": "chestCT", "trainable": "head", "n_timed": 40},
    "small3d": {"dataset": "chestCT", "n_timed": 8},
    "small2d": {"dataset": "Retinopathy", "n_timed": 6},
    "resnet50": {
        "dataset": "Retinopathy", "network": "resnet50", "n_train": 150, "n_test": 40, "n_timed": 3,
    },
}  # fmt: skip
"""What is timed, ``n_timed`` steps of it: small and large networks, in embedded environments."""
N_WARM = 2
"""Steps before those that are timed."""


@dataclass(frozen=True)
class WaitingConfig:
    """Measure steps under several ways of waiting."""

    rounds: int = 3
    """Turns of each way."""
    json: Path | None = None
    """File for every time, written as each comes."""
    tasks: tuple[Task, ...] = ("head", "small3d", "small2d", "resnet50")
    """What is timed."""
    alone: bool = False
    """Time the first task in this process, as it waits, and print the seconds of a step."""


def main(config: WaitingConfig) -> int:
    """Measure, print a table of milliseconds, write the file; returns the exit status."""
    if config.alone:
        print(time_steps(**TASKS[config.tasks[0]]))
        return 0
    rows = list(itertools.product(config.tasks, ("quiet", "busy")))
    seconds = {row: {way: list[float]() for way in WAITING} for row in rows}
    turns = list(itertools.product(range(config.rounds), rows, WAITING))
    for _, (task, load), way in tqdm(turns, unit="process"):
        with busy() if load == "busy" else nullcontext():
            seconds[task, load][way].append(in_a_process(task, way))
        if config.json is not None:
            record = [{"task": task, "load": load, **seconds[task, load]} for task, load in rows]
            config.json.write_text(json.dumps(record, indent=1))
    medians = pd.DataFrame(seconds).T.map(statistics.median)
    print(f"\nmilliseconds a step, {os.cpu_count()} cores\n")
    print((1e3 * medians).round(1).to_string())
    return 0


def in_a_process(task: str, way: str) -> float:
    """Median seconds of a step of a task in a process of its own."""
    names = {name for variables in WAITING.values() for name in variables}
    others = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.waiting", "--alone", "--tasks", task],
        env=others | WAITING[way], capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


@contextmanager
def busy() -> Iterator[None]:
    """One more process that never sleeps."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def time_steps(dataset: str, n_timed: int, **settings: Any) -> float:
    """Median seconds of a step with random scores, in an embedded environment."""
    from benchmarks.timing import paper  # here, as whoever starts the processes needs no PyTorch

    env = paper.make(dataset, {"profile": "embedded", **settings})
    env.reset(seed=0)
    return paper.seconds_of_a_step(env, N_WARM, n_timed)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(WaitingConfig, description=__doc__)))
