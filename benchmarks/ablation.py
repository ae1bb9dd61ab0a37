"""What discount, reward and noise are worth to an agent that learns online: ``drla-set``.

    python -m benchmarks.ablation --preset retinamnist-features --root DIR --seeds 10 --out runs/ab

runs the agent once for each of ``VARIANTS``, each of which changes one setting, and writes a table
of them beside the first, ``ablation.md``. A tenth of the training images is held out throughout, as
two of the rewards need it. The same command again goes on where it was stopped.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import tyro

from benchmarks import run
from benchmarks.reporting import results, statistics, tables

METHOD, METRIC = "drla-set", "macro_f1"
DIGITS = 4
"""Of differences."""
VARIANTS: dict[str, dict[str, Any]] = {
    "gamma 0.99, Eq. 3, noise 0.2": {},
    "gamma 0.9": {"agent": {"gamma": 0.9}},
    "gamma 0.5": {"agent": {"gamma": 0.5}},
    "gamma 0": {"agent": {"gamma": 0.0}},
    "reward f1_gain": {"reward": "f1_gain"},
    "reward loss_gain": {"reward": "loss_gain"},
    "noise 0.05": {"agent": {"noise_sigma": 0.05}},
    "noise 0.8": {"agent": {"noise_sigma": 0.8}},
    "no noise": {"agent": {"noise": "none"}},
    "noise not scaled to the spread": {"agent": {"noise_scale": "fixed"}},
}
"""What differs from the first: settings of the run and of ``agents.sets.PoolConfig``."""
CONTROLS = ("random", "ms", "frozen-set")
"""Run beside the first."""


@dataclass(frozen=True)
class AblationConfig:
    """Run every variant and write the table."""

    preset: str
    """The experiment."""
    out: Path
    """Folder for the results, one below it for each variant."""
    root: Path | None = None
    """Folder of the data."""
    seeds: int = 10
    """Number of seeds; all variants share the start of each."""
    side_by_side: int = 1
    """Cells at a time in one process, over one copy of the images; see ``benchmarks.run``."""


def main(config: AblationConfig) -> int:
    """Run, and write ``ablation.md``; returns the exit status.

    Raises:
        ValueError: an unknown preset, or a folder with results of other settings.
        FileNotFoundError: the data is not there.
    """
    curves = []
    for number, (name, changes) in enumerate(VARIANTS.items()):
        folder = config.out / re.sub(r"\W+", "-", name.lower())
        methods = (METHOD,) if number else (METHOD, *CONTROLS)
        status = run.main(run.RunConfig(
            out=folder, preset=(config.preset,), methods=methods, root=config.root,
            seeds=config.seeds, side_by_side=config.side_by_side, validation_fraction=0.1,
            **changes,
        ))  # fmt: skip
        if status:
            return status
        (experiment,) = results.load([folder])
        found = experiment.curves
        curves.append(found.assign(method=found["method"].replace(METHOD, name)))
    text = table(pd.concat(curves, ignore_index=True)).to_markdown(disable_numparse=True)
    (config.out / "ablation.md").write_text(text + "\n")
    print(f"\n{text}")
    return 0


def table(curves: pd.DataFrame) -> pd.DataFrame:
    """A row a variant: AULC with its interval, and the paired difference to the first.

    Holm's correction is over the variants; the controls are not tested, nor is anything with fewer
    than five seeds.
    """
    areas = statistics.aulc(curves, METRIC).unstack("seed")
    rewards = curves.groupby(["method", "seed"])["reward"].mean().groupby(level="method").mean()
    first, *others = VARIANTS
    tests = statistics.paired_tests(curves, METRIC, first, others)
    rows: dict[str, dict[str, str]] = {}
    for name in (first, *others, *CONTROLS):
        rows[name] = {
            "AULC": tables.plus_minus(*statistics.interval(areas.loc[name].to_numpy())),
            "reward, its own": f"{rewards[name]:.3f}",
        }
        rows[name] |= tables.paired_row(tests, name, "- the first", DIGITS)
    return pd.DataFrame.from_dict(
        {name.upper() if name in CONTROLS else name: row for name, row in rows.items()},
        orient="index",
    ).fillna("")


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(AblationConfig, description=__doc__)))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"benchmarks.ablation: {error}")
