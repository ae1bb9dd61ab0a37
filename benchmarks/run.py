"""The experiment matrix: data sets x methods x seeds, every method from the same starts.

    python -m benchmarks.run --preset embedded --seeds 10 --workers 2 --out runs/embedded
    python -m benchmarks.run --dataset chestCT --methods random ms drla --out runs/first

makes one folder a cell, ``OUT/<data set>/<method>/seed<k>``; ``benchmarks.cell`` says what is
in it. The same command again goes on where it was stopped and runs nothing twice. It ends with a
table; ``python -m benchmarks.report OUT`` makes tables, figures and tests of it.

The exit status is 1 if a cell failed. Ctrl-C, or SIGTERM, ends it within five seconds: each cell
that runs writes a checkpoint first, if its step is not longer. A second run in the same folder is
refused.
"""

import functools
import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from al_gym import import_paths
from al_gym.config import check_at_least, parsed_setting
from benchmarks.matrix import layout, methods, provenance, stopping
from benchmarks.matrix.environments import check_comparable, make_environment
from benchmarks.matrix.locks import only_process
from benchmarks.matrix.methods import Method
from benchmarks.matrix.presets import PRESETS, Preset, find
from benchmarks.matrix.stopping import Stop
from benchmarks.reporting import findings, results, statistics, tables


@dataclass(frozen=True)
class RunConfig:
    """Run active-learning methods on data sets and compare them."""

    out: Path
    """Folder for the results."""
    preset: tuple[str, ...] = ()
    """Named experiments: demo demo-network embedded paper-chestCT paper-retinopathy retinamnist
    chestct-features retinopathy-features retinamnist-features bloodcells-features
    chestct-paper-features retinopathy-paper-features chestct-fifth-features chestct-few
    retinopathy-few retinamnist-few bloodcells-few wbc-few mednist-few; or files of your own, whose
    names end in .toml and which look like those in benchmarks/presets."""
    dataset: Literal["chestCT", "Retinopathy", "MedMNIST", "Folder"] | None = None
    """Data set to learn on, instead of a preset."""
    methods: tuple[str, ...] = ()
    """Methods to compare; otherwise the preset's. random lc ms en fusion all; drla drla-fixed
    drla-sound drla-set drla-transfer drla-embed drla-transfer-v1 drla-embed-v1; hyper; badge
    coreset typiclust probcover bald uherding uherding-plain bait; sb3-ddpg sb3-td3 sb3-sac sb3-ppo
    sb3-a2c; controls: frozen frozen-sound frozen-set start-embed eq3 eq3-oracle look-ahead. Your
    own: a saved policy, policy.safetensors; skactiveml:Name, a pool strategy of scikit-activeml;
    package.module:Name of something with predict."""
    seeds: int = 3
    """Number of seeds; all methods share the start of each."""
    profile: Literal["auto", "paper", "embedded"] | None = None
    """The paper's settings, small ones on generated images, or what the data found allows."""
    root: Path | None = None
    """Folder of the data; otherwise $AL_GYM_DATA/<dataset>."""
    flag: str | None = None
    """Which data set of MedMNIST."""
    budget: int | float | None = None
    """What to label in the end: 300 is a number of images, 0.3 or 1.0 a share of the training set;
    otherwise the preset's or profile's."""
    query_size: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Samples annotated in a step; otherwise the preset's or profile's."""
    dropout: float | None = None
    """Probability of dropout before the classifier's last layer, which BALD needs."""
    reward: str | None = None
    """What a step pays: misclassification (Eq. 3), f1_gain or loss_gain; it changes what agents
    learn, and what is reported as reward."""
    validation_fraction: float | None = None
    """Share of the training set held out for rewards that need it; otherwise the reward decides."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Any other keyword of gymnasium.make, such as network=resnet18 trainable=head
    initial_fraction=0.1 learning_rate=0.01 group_pattern='p(\\d+)_'. Values are JSON where they can
    be read as JSON, and text otherwise."""
    agent: tyro.conf.Suppress[dict[str, Any]] = field(default_factory=dict)
    """Fields of agents.sets.PoolConfig in place of those of the drla agents, from Python only."""
    retrain_eval: bool = False
    """At the report's labelled fractions also train a classifier from scratch on what is labelled,
    so that the choice of samples is told from the order in which the network saw them."""
    workers: int = 1
    """Cells at a time on this machine, each in a process of its own if more than one."""
    ray: str | None = None
    """Run the cells on a Ray cluster instead: "auto" for the one this machine belongs to, its
    address, or "local" to start one here. OUT must be a folder that all its machines share."""
    gpus_per_cell: float = 0.0
    """Share of a GPU that a cell needs, for Ray."""
    side_by_side: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Cells at a time in one process, over one copy of the images: for a GPU that one cell leaves
    idle. Stable-Baselines3's agents, which draw from global generators, are run one by one."""
    threads: int = 1
    """Threads of PyTorch in a cell. It is part of the settings: with another number the last bits
    of a curve may differ."""
    checkpoint_every: int = 10
    """Steps between two checkpoints of a cell."""
    overwrite: bool = False
    """Remove results of other settings instead of refusing to mix with them."""
    trust: bool = False
    """Run code that a preset file names, such as package.module:Name among its methods: see
    SECURITY.md. What this command line names needs no such word."""


@dataclass(frozen=True)
class Experiment:
    """All cells of one data set."""

    name: str
    """Of the folder."""
    preset: str | None
    dataset: str
    settings: dict[str, Any]
    """Keywords of ``gymnasium.make``."""
    methods: tuple[Method, ...]


def main(config: RunConfig, stop: Stop | None = None) -> int:
    """Run every cell that is not finished, print the table; returns the exit status.

    Args:
        config: what to run.
        stop: asked by cells between their steps whether to stop.

    Raises:
        Stopped: a signal has asked to stop.
        InUseError: another process runs in the folder.
        ValueError: an unknown method or preset, settings that do not fit, or a folder with results
            of other settings.
        FileNotFoundError: the data is not there.
    """
    experiments = plan(config)
    with only_process(config.out, "cells in this folder"):
        totals: dict[Path, int] = {}
        for experiment in experiments:
            records, max_steps = prepare(experiment, config)
            _write_skipped(config.out / experiment.name, records)
            for folder, record in records.items():
                layout.create(folder, record)
                totals[folder] = max_steps + 1 if record["facts"]["has_curve"] else 1
        open_cells = [folder for folder in totals if not layout.is_finished(folder)]
        for folder in totals.keys() - set(open_cells):
            layout.tidy(folder)
        if len(open_cells) < len(totals):
            print(f"{len(totals) - len(open_cells)} of {len(totals)} cells are finished already")
        failed = _run(open_cells, totals, config, stop) if open_cells else {}
    for experiment_results in results.load([config.out]):
        print(f"\n{experiment_results.name}")
        print("\n".join(findings.notes(experiment_results)))
        if not experiment_results.everything.empty:
            print(tables.scores_as_text(experiment_results))
    for folder, problem in failed.items():
        print(f"FAILED {folder}: {problem}", file=sys.stderr)
    print(f"\nTables, figures and tests: python -m benchmarks.report {config.out}")
    return 1 if failed else 0


def _write_skipped(folder: Path, records: dict[Path, dict[str, Any]]) -> None:
    """The list of the files that the reader left out, the same for all cells, if there are any."""
    from al_gym.data import skipping  # here, as readers import all that is heavy

    skipped = next(iter(records.values())).get("skipped", [])
    (folder / skipping.LIST).unlink(missing_ok=True)
    if skipped:
        folder.mkdir(parents=True, exist_ok=True)
        skipping.write_list(folder / skipping.LIST, skipped)


def _run(
    folders: list[Path], totals: dict[Path, int], config: RunConfig, stop: Stop | None
) -> dict[Path, str]:
    """Run cells; returns what stopped those that failed."""
    from benchmarks.matrix import executors  # here, as they import all that is heavy

    how = executors.Execution(
        config.out.name, config.workers, config.ray, config.gpus_per_cell, config.side_by_side,
        config.threads,
    )  # fmt: skip
    return executors.execute(folders, totals, how, stop)


# --- what to run ----------------------------------------------------------------------------------


def plan(config: RunConfig) -> list[Experiment]:
    """The experiments asked for, by preset or by data set.

    Raises:
        ValueError: see ``main``.
    """
    if bool(config.preset) == bool(config.dataset):
        raise ValueError(f"give either --dataset or --preset, one or more of {' '.join(PRESETS)}")
    for count in ("seeds", "workers", "side_by_side", "threads", "checkpoint_every"):
        check_at_least(count, getattr(config, count), 1)
    if config.side_by_side > 1 and (config.workers > 1 or config.ray is not None):
        raise ValueError("side_by_side is for one process: without workers and ray")
    chosen: list[tuple[str | None, Preset]] = [
        (name, find(name, config.trust)) for name in config.preset
    ]
    if config.dataset is not None:
        chosen = [(None, Preset(config.dataset, methods=()))]
    experiments = [_experiment(name, preset, config) for name, preset in chosen]
    names = [experiment.name for experiment in experiments]
    if len(set(names)) < len(names):
        raise ValueError(f"two presets would share a folder ({' '.join(names)}): use two --out")
    return experiments


def _experiment(name: str | None, preset: Preset, config: RunConfig) -> Experiment:
    given = {
        "profile": config.profile,
        "root": None if config.root is None else str(config.root.resolve()),
        "flag": config.flag,
        "budget": config.budget,
        "query_size": config.query_size,
        "dropout": config.dropout,
        "reward": config.reward,
        "validation_fraction": config.validation_fraction,
    }
    given |= dict(parsed_setting(setting, "--set") for setting in config.set)
    if any(value is not None for key, value in given.items() if key != "root"):
        name = None  # no longer the experiment of that name
    settings = preset.settings | {key: value for key, value in given.items() if value is not None}
    for key in ("initial_set", "labels"):  # workers elsewhere find the files, too
        if str(settings.get(key, "")).lower().endswith(".csv"):
            settings[key] = str(Path(settings[key]).expanduser().resolve())
    flag = settings.get("flag")
    folder = preset.title or (preset.dataset if flag is None else f"{preset.dataset}-{flag}")
    chosen = methods.chosen(config.methods or preset.methods)
    return Experiment(folder, name, preset.dataset, settings, chosen)


def prepare(experiment: Experiment, config: RunConfig) -> tuple[dict[Path, dict[str, Any]], int]:
    """What each cell's ``config.json`` is to hold, by folder, and the steps of a cell.

    The cells go seed by seed, so that a run that is stopped has whole seeds to compare. Nothing is
    written yet; with ``overwrite`` results of other settings are removed.

    Raises:
        ValueError: a folder holds results of other settings, or of a newer version; a data set
            without test images, or with labels that are not known.
        FileNotFoundError: the data is not there.
    """
    shared: dict[str, Any] = {
        "format": layout.FORMAT,
        "preset": experiment.preset,
        "dataset": experiment.dataset,
        "settings": experiment.settings,
        "threads": config.threads,
        "checkpoint_every": config.checkpoint_every,
    }
    env = make_environment(shared)
    run = env.get_wrapper_attr("run")
    check_comparable(run.dataset)
    fractions = statistics.fractions_between(
        1 - run.task.n_pool / run.n_training, run.task.n_budget / run.n_training
    )
    shared["retrain_at"] = sorted({*fractions, 1.0}) if config.retrain_eval else []
    if config.retrain_eval:
        shared["retraining"] = provenance.retraining(env)
    # what is compared with earlier files is what JSON makes of it
    shared = json.loads(
        json.dumps(shared | provenance.describe_task(env) | provenance.describe_program(env))
    )
    # what does not learn has the same settings on all seeds, and may read files to know them
    fixed = {m.name: m.settings(env, 0, {}) for m in experiment.methods if not m.learns}
    records = {}
    for seed in range(config.seeds):
        for method in experiment.methods:
            agent = fixed.get(method.name)
            if agent is None:
                agent = method.settings(env, seed, config.agent)
            record = methods.with_facts({**shared, "seed": seed, "agent": agent}, method)
            folder = config.out / experiment.name / method.folder / f"seed{seed}"
            records[folder] = json.loads(json.dumps(record))
    place = config.out / experiment.name
    there = {path.parent for path in place.glob(f"*/seed*/{layout.CONFIG}")}
    for folder in sorted(there):  # those of other methods too: all of them are to be compared
        problem = other_settings(folder / layout.CONFIG, records.get(folder, shared))
        if problem and config.overwrite:
            shutil.rmtree(folder)
        elif problem:
            raise ValueError(
                f"{folder} holds {problem}. Choose another --out, or --overwrite to replace it"
            )
    return records, env.get_wrapper_attr("max_steps")


def other_settings(path: Path, record: dict[str, Any]) -> str | None:
    """How an earlier ``config.json`` differs from ``record`` in what decides a curve, in words.

    Raises:
        ValueError: it was written by a newer version.
    """
    try:
        earlier = provenance.completed(json.loads(path.read_text()))
    except ValueError:
        if "agent" in record and not layout.has_begun(path.parent):
            return None  # it was torn before the cell began, and is written anew
        return "a config.json that cannot be read"
    if earlier.get("format", 0) > layout.FORMAT:
        raise ValueError(
            f"{path.parent} was made by a newer version of al-gym (format {earlier['format']}, "
            f"this one knows {layout.FORMAT}): update, or choose another --out"
        )
    if "agent" in record:  # this cell is to be run, by what its own file says
        named = import_paths.named_in(earlier.get("settings", {}), earlier.get("method"))
        ours = import_paths.named_in(record["settings"], record["method"])
        if not set(named) <= set(ours):
            return f"results of code that this command does not name ({', '.join(named)})"
    keys = (*layout.SHARED, "agent") if "agent" in record else layout.SHARED
    different = layout.difference(earlier, record, keys)
    return f"results of other settings ({different})" if different else None


def command_line(config: RunConfig, stop: Stop) -> int:
    """``main``, with what is wrong in a line."""
    try:
        return main(config, stop)
    except (ValueError, TypeError, OSError) as error:
        print(f"benchmarks.run: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    settings = tyro.cli(RunConfig)
    stopping.main(functools.partial(command_line, settings))
