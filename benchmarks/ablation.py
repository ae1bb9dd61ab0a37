"""What single settings are worth to an agent that learns online.

    python -m benchmarks.ablation --study set --preset retinamnist-features --root DIR --seeds 10 \
        --out runs/ablation
    python -m benchmarks.ablation --study repairs --preset chestct-fifth-features --seeds 10 \
        --out runs/repairs

runs an agent once for each variant of a study, and writes a table of them beside the first,
``ablation.md``: of "set" discount, reward and noise of DRLA-SET; of "repairs" what keeps the
published agent's arithmetic sound (``agents.sets.repairs``), each alone, the fewest that do, and
all together. The same
command again goes on where it was stopped.
"""

import functools
import re
import sys
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import tyro

from benchmarks import run
from benchmarks.matrix import stopping
from benchmarks.matrix.layout import HEALTH
from benchmarks.matrix.methods import SOUND
from benchmarks.matrix.stopping import Stop
from benchmarks.reporting import results, statistics, tables

METRIC = "macro_f1"
DIGITS = 4
"""Of differences."""


@dataclass(frozen=True)
class Study:
    """An agent, and what is changed of it."""

    method: str
    variants: dict[str, dict[str, Any]]
    """What differs from the first: settings of the run and of ``agents.sets.PoolConfig``."""
    controls: tuple[str, ...]
    """Run beside the first."""
    validation_fraction: float | None = None
    """Of the training images, held out throughout: two of the rewards need it."""


REPAIRS: dict[str, dict[str, Any]] = {
    "mask": {"mask": True},
    "noise on the logits, scaled": {"noise_space": "logit", "noise_scale": "spread"},
    "learning rate 1e-4": {"learning_rate": 1e-4},
    "small output": {"small_output": True},
    "penalty": {"bounds": "penalty"},
    "inverting gradients": {"bounds": "inverting"},
    "bounded target": {"largest_reward": 1.0},
    "two critics": {"critics": 2},
    "layer norm": {"layer_norm": True},
}
"""Settings of the agent; the study has each alone."""
TOGETHER = [name for name in REPAIRS if name != "inverting gradients"]
"""Those of the variant that has all of them: one of penalty and inverting gradients will do."""
STUDIES = {
    "set": Study(
        "drla-set",
        {
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
        },
        ("random", "ms", "frozen-set"),
        validation_fraction=0.1,
    ),
    "repairs": Study(
        "drla",
        {
            "as published": {},
            **{name: {"agent": settings} for name, settings in REPAIRS.items()},
            "penalty, two critics": {"agent": {**REPAIRS["penalty"], **REPAIRS["two critics"]}},
            "these and scaled noise, DRLA-SOUND": {"agent": SOUND},
            "all together": {"agent": {k: v for n in TOGETHER for k, v in REPAIRS[n].items()}},
        },
        ("random", "ms", "frozen", "frozen-sound"),
    ),
}


@dataclass(frozen=True)
class AblationConfig:
    """Run every variant and write the table."""

    study: Literal["set", "repairs"]
    """What is changed of which agent."""
    preset: str
    """The experiment."""
    out: Path
    """Folder for the results, one below it for each variant."""
    variants: tuple[str, ...] = ()
    """Those to run, by name; otherwise all. The first is always among them."""
    reward: str | None = None
    """What a step pays, where a variant does not say: misclassification (Eq. 3), f1_gain, ..."""
    root: Path | None = None
    """Folder of the data."""
    seeds: int = 10
    """Number of seeds; all variants share the start of each."""
    side_by_side: int = 1
    """Cells at a time in one process, over one copy of the images; see ``benchmarks.run``."""
    workers: int = 1
    """Cells at a time, each in a process of its own."""


def main(config: AblationConfig, stop: Stop | None = None) -> int:
    """Run, and write ``ablation.md``; returns the exit status.

    Args:
        config: what to run.
        stop: asked by cells between their steps whether to stop.

    Raises:
        Stopped: a signal has asked to stop.
        ValueError: an unknown preset, or a folder with results of other settings.
        FileNotFoundError: the data is not there.
    """
    from agents.sets import PoolConfig  # heavy: not needed to say what is wrong with a command

    study = STUDIES[config.study]
    first, *others = study.variants
    chosen = [first, *(name for name in others if name in (config.variants or others))]
    unknown = [name for name in config.variants if name not in study.variants]
    if unknown:
        raise ValueError(f"no variant {unknown[0]!r}, choose from {', '.join(study.variants)}")
    curves = []
    for name in chosen:
        folder = config.out / re.sub(r"\W+", "-", name.lower())
        methods = (study.method, *study.controls) if name == first else (study.method,)
        changes = {"reward": config.reward, **study.variants[name]}
        status = run.main(run.RunConfig(
            out=folder, preset=(config.preset,), methods=methods, root=config.root,
            seeds=config.seeds, side_by_side=config.side_by_side, workers=config.workers,
            validation_fraction=study.validation_fraction, **changes,
        ), stop)  # fmt: skip
        if status:
            return status
        (experiment,) = results.load([folder])
        found = experiment.curves[experiment.curves["seed"] < config.seeds]
        gamma = changes.get("agent", {}).get("gamma", PoolConfig.gamma)
        found = found.assign(realised=realised(found, gamma))
        curves.append(found.assign(method=found["method"].replace(study.method, name)))
    together = pd.concat(curves, ignore_index=True)
    tests = statistics.paired_tests(together, METRIC, first, chosen[1:])
    frame = table(together, tests, study.controls)
    text = frame.to_markdown(disable_numparse=True)
    text += f"\n\n{tables.power([tests], DIGITS)}".rstrip()
    (config.out / "ablation.md").write_text(text + "\n")
    print(f"\n{text}")
    return 0


def table(curves: pd.DataFrame, tests: pd.DataFrame, controls: tuple[str, ...]) -> pd.DataFrame:
    """A row a variant: AULC, reward, health, and the paired difference of AULC to the first.

    Holm's correction is over the variants; the controls are not tested, nor is anything with fewer
    than five seeds: ``tests`` has neither. Health is the mean over the last fifth of the episode;
    Q is given beside the largest possible return, and beside the returns that were realised.
    """
    areas = statistics.aulc(curves, METRIC).unstack("seed")
    rewards = curves.groupby(["method", "seed"])["reward"].mean().groupby(level="method").mean()
    variants = [name for name in curves["method"].unique() if name not in controls]
    rows: dict[str, dict[str, str]] = {}
    for name in (*variants, *controls):
        rows[name] = {
            "AULC": tables.plus_minus(*statistics.interval(areas.loc[name].to_numpy())),
            "reward, its own": f"{rewards[name]:.3f}",
            **_health(curves[curves["method"] == name]),
            **tables.paired_row(tests, name, "- the first", DIGITS),
        }
    return pd.DataFrame.from_dict(
        {name.upper() if name in controls else name: row for name, row in rows.items()},
        orient="index",
    ).fillna("")


def _health(curves: pd.DataFrame) -> dict[str, str]:
    """How an agent did at the end; nothing of methods that do not learn."""
    last = curves[curves["step"] > 0.8 * curves["step"].max()]
    if not statistics.has_health(last):
        return {}
    means = last[list(HEALTH)].mean()
    value = np.abs(last["q"] / last["q_limit"]).mean()
    return {
        "saturated": f"{means['saturated']:.0%}",
        "tied": f"{means['tied']:.0%}",
        "rank correlation": f"{means['rank_correlation']:.2f}",
        "Q / largest return": "-" if np.isnan(value) else f"{value:.2g}",
        "Q / realised": "-" if np.isnan(value) else f"{(last['q'] / last['realised']).mean():.2g}",
    }


def realised(curves: pd.DataFrame, gamma: float) -> pd.Series:
    """What Q should have been at each step: the mean discounted return of the steps so far.

    Q is logged as the mean over states drawn from the buffer, which are those. Returns are counted
    to the end of the episode, and so only once it is over.

    Args:
        curves: of whole episodes; the reward of an episode's start is missing.
        gamma: the discount.

    Returns:
        One for each row of ``curves``, NaN at the starts.
    """

    def of_one(rewards: pd.Series) -> pd.Series:
        paid = rewards.dropna()
        returns = accumulate(paid[::-1], lambda later, reward: reward + gamma * later)
        means = pd.Series([*returns][::-1], paid.index).expanding().mean()
        return means.reindex(rewards.index)

    return curves.groupby(["method", "seed"])["reward"].transform(of_one)


def command_line(config: AblationConfig, stop: Stop) -> int:
    """``main``, with what is wrong in a line."""
    try:
        return main(config, stop)
    except (ValueError, OSError) as error:
        print(f"benchmarks.ablation: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    settings = tyro.cli(AblationConfig, description=__doc__)
    stopping.main(functools.partial(command_line, settings))
