"""Contestants that take turns, and a report of what they took."""

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from tqdm import tqdm

Work = Callable[[], Any]


@dataclass(frozen=True)
class Comparison:
    """Times of two contestants, a round each."""

    name: str
    ours: tuple[float, ...]
    """Seconds of one unit of work."""
    theirs: tuple[float, ...]
    peer: str
    target: float | None = None
    """The ratio that we want at least."""

    @property
    def ratios(self) -> list[float]:
        """How many times as fast we were, round by round."""
        return [theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    @property
    def ratio(self) -> float:
        """Their median."""
        return statistics.median(self.ratios)

    def line(self) -> str:
        """For the terminal: medians, ratio with the middle half of the rounds, target."""
        ours, theirs = (1e3 * statistics.median(times) for times in (self.ours, self.theirs))
        low, _, high = statistics.quantiles(self.ratios, n=4)
        target = "" if self.target is None else f"  target {self.target}x"
        return (
            f"{self.name:<42}{ours:9.2f} ms   {self.peer:<28}{theirs:9.2f} ms "
            f"{self.ratio:6.2f}x [{low:.2f}, {high:.2f}]{target}"
        )


@dataclass
class Report:
    """Everything that was measured."""

    comparisons: list[Comparison] = field(default_factory=list)
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
    """Title -> name -> value: what is no comparison."""

    def show(self) -> None:
        """Print it as tables."""
        for comparison in self.comparisons:
            print(comparison.line())
        for title, values in self.numbers.items():
            print(f"\n{title}")
            for name, value in values.items():
                print(f"  {name:<58}{value:12.4g}")

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with what it was measured on."""
        return {
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
            "torch": torch.__version__,
            "comparisons": [asdict(c) | {"ratios": c.ratios} for c in self.comparisons],
            "numbers": self.numbers,
        }


def take_turns(
    name: str, contestants: dict[str, Work], *, rounds: int, units: int = 1
) -> dict[str, tuple[float, ...]]:
    """Time contestants in turns, after a round to warm up.

    Args:
        name: of the work, for the progress bar.
        contestants: each does ``units`` units of it.
        rounds: turns of each.
        units: how many.

    Returns:
        Seconds of a unit, a round each.
    """
    for contestant in contestants.values():
        contestant()
    times: dict[str, list[float]] = {key: [] for key in contestants}
    for turn in tqdm(range(rounds), desc=name, unit="round", leave=False):
        for key in list(contestants) if turn % 2 else reversed(contestants):
            before = time.perf_counter()
            contestants[key]()
            times[key].append((time.perf_counter() - before) / units)
    return {key: tuple(values) for key, values in times.items()}
