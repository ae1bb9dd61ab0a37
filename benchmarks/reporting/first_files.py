"""Which files a method asked for first: those that an imaging group would have labelled first."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.reporting.results import Experiment

SHOWN = 5
"""Files that a page names of each kind; the CSV has all of them."""
NAMES = "selected_names"


@dataclass(frozen=True)
class FirstFiles:
    """The first files of one method."""

    method: str
    """As reports show it."""
    seed: int
    """The first that has finished."""
    first: list[str]
    """Files of that seed's first query, best first."""
    often: list[tuple[str, int]]
    """Files asked for in the first tenth of the queries, and by how many seeds; most first."""
    n_seeds: int


def first_files(experiment: Experiment) -> list[FirstFiles]:
    """The first files of every method whose curves name them, which those of format 2 do not."""
    curves = experiment.curves
    if NAMES not in curves:
        return []
    named = curves[(curves["step"] > 0) & curves[NAMES].notna()]
    found = []
    for method, own in named.groupby("method", sort=False):
        n_queries = own.groupby("seed")["step"].transform("max")
        early = own[own["step"] <= np.ceil(n_queries / 10)]
        asked = pd.DataFrame({"seed": early["seed"], "file": early[NAMES].map(json.loads)})
        n_seeds_asking = asked.explode("file").groupby("file", sort=False)["seed"].nunique()
        often = n_seeds_asking.sort_values(ascending=False, kind="stable")
        start = asked.iloc[0]
        found.append(FirstFiles(
            experiment.label(method), int(start["seed"]), start["file"],
            [(file, int(n)) for file, n in often.items()], own["seed"].nunique(),
        ))  # fmt: skip
    return found


def write(files: list[FirstFiles], path: Path) -> None:
    """All of ``often`` as CSV: method, file, how many seeds asked for it, and of how many."""
    rows = [(each.method, file, n, each.n_seeds) for each in files for file, n in each.often]
    pd.DataFrame(rows, columns=["method", "file", "seeds", "of"]).to_csv(path, index=False)
