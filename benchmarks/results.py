"""What run folders hold, read into frames: one experiment a data set."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import cell
from benchmarks.methods import METHODS


@dataclass(frozen=True)
class Unfinished:
    """A cell that takes no part in any average."""

    method: str
    seed: int
    steps: int
    """Steps done so far."""
    error: str | None
    """What stopped it, in a line, if something did."""


@dataclass(frozen=True)
class Experiment:
    """All cells of one data set."""

    name: str
    config: dict[str, Any]
    """Of the first cell; what decides the curves is the same in all of them."""
    curves: pd.DataFrame
    """Finished cells: ``method``, ``seed`` and the columns of ``curve.csv``, a row a step."""
    unfinished: tuple[Unfinished, ...]
    programs: tuple[str, ...]
    """Commits, versions and devices that ran the cells."""

    @property
    def methods(self) -> list[str]:
        """Those with a finished cell, in the order of ``METHODS``."""
        present = set(self.curves["method"])
        return [name for name in METHODS if name in present]

    @property
    def seeds(self) -> list[int]:
        """Seeds with a finished cell."""
        return sorted(self.curves["seed"].unique())


def load(folders: Sequence[Path]) -> list[Experiment]:
    """Read run folders; cells of one data set in several of them are put together.

    Raises:
        FileNotFoundError: a folder without a cell.
        ValueError: cells of one data set whose settings differ, or that are there twice.
    """
    found: dict[str, dict[tuple[str, int], Path]] = {}
    for folder in folders:
        paths = sorted(folder.glob(f"*/*/seed*/{cell.CONFIG}"))
        if not paths:
            raise FileNotFoundError(f"no results in {folder}: it holds no */*/seed*/{cell.CONFIG}")
        for path in paths:
            cells = found.setdefault(path.parents[2].name, {})
            key = (path.parents[1].name, int(path.parent.name.removeprefix("seed")))
            if key in cells:
                raise ValueError(
                    f"{key[0]} with seed {key[1]} is in {cells[key]} and {path.parent}"
                )
            cells[key] = path.parent
    order = list(METHODS)
    return [
        _experiment(
            name, dict(sorted(cells.items(), key=lambda c: (order.index(c[0][0]), c[0][1])))
        )
        for name, cells in sorted(found.items())
    ]


def _experiment(name: str, cells: dict[tuple[str, int], Path]) -> Experiment:
    configs = {key: _config(path / cell.CONFIG) for key, path in cells.items()}
    first = next(iter(configs.values()))
    for key, config in configs.items():
        different = cell.difference(first, config, cell.SHARED)
        if different:
            raise ValueError(
                f"{cells[key]} cannot be compared with {next(iter(cells.values()))}: {different}"
            )
    _check_starts(cells)
    finished, unfinished = [], []
    for (method, seed), path in cells.items():
        curve = read_curve(path / cell.CURVE)
        if (path / cell.RESULT).exists():
            finished.append(curve.assign(method=method, seed=seed))
        else:
            unfinished.append(Unfinished(method, seed, max(0, len(curve) - 1), _error(path)))
    columns = ["method", "seed", *cell.COLUMNS]
    curves = pd.concat(finished, ignore_index=True) if finished else pd.DataFrame(columns=columns)
    machines = {
        f"commit {config.get('commit')}, {config.get('device')}, "
        + ", ".join(f"{package} {number}" for package, number in config["versions"].items())
        for config in configs.values()
    }
    return Experiment(name, first, curves, tuple(unfinished), tuple(sorted(machines)))


def _config(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}): remove its folder, or run it") from None


def _check_starts(cells: dict[tuple[str, int], Path]) -> None:
    """The methods of a seed began alike, wherever they were run.

    Raises:
        ValueError: they did not.
    """
    starts: dict[int, Path] = {}
    for (_, seed), folder in cells.items():
        path = folder / cell.START
        if path.exists():
            other = starts.setdefault(seed, path)
            if other.read_text() != path.read_text():
                raise ValueError(
                    f"{folder} and {other.parent} did not begin with the same labelled set and "
                    "weights: they cannot be compared"
                )


def read_curve(path: Path) -> pd.DataFrame:
    """A ``curve.csv``, without a last line that was torn; no rows if there is none."""
    text = path.read_text() if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if not whole:
        return pd.DataFrame(columns=list(cell.COLUMNS))
    return pd.read_csv(io.StringIO(whole), dtype={"selected": str, "class_counts": str})


def _error(folder: Path) -> str | None:
    path = folder / cell.ERROR
    return path.read_text().partition("\n")[0] if path.exists() else None
