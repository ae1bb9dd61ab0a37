"""The experiment matrix: data sets x methods x seeds, every method from the same starts.

    python -m benchmarks.run --preset embedded --seeds 10 --workers 2 --out runs/embedded
    python -m benchmarks.run --dataset chestCT --methods random ms drla --out runs/first

makes one folder a cell, ``OUT/<data set>/<method>/seed<k>``; ``benchmarks.cell`` says what is
in it. The same command again goes on where it was stopped and runs nothing twice. It ends with a
table; ``python -m benchmarks.report OUT`` makes tables, figures and tests of it.

The exit status is 1 if a cell failed.
"""

import contextlib
import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tqdm import tqdm

from al_gym.names import hint
from benchmarks import cell, methods, side_by_side
from benchmarks.presets import PRESETS, Preset
from benchmarks.reporting import findings, results, statistics, tables


@dataclass(frozen=True)
class RunConfig:
    """Run active-learning methods on data sets and compare them."""

    out: Path
    """Folder for the results."""
    preset: tuple[str, ...] = ()
    """Named experiments: paper-chestCT paper-retinopathy embedded retinamnist chestct-features
    retinopathy-features retinamnist-features bloodcells-features."""
    dataset: Literal["chestCT", "Retinopathy", "MedMNIST", "Folder"] | None = None
    """Data set to learn on, instead of a preset."""
    methods: tuple[str, ...] = ()
    """Methods to compare; otherwise the preset's. random lc ms en fusion all; drla drla-fixed
    drla-set drla-set-credit drla-residual drla-transfer drla-embed; badge coreset typiclust
    probcover bald; sb3-ddpg sb3-td3 sb3-sac sb3-ppo sb3-a2c; controls: frozen eq3 eq3-oracle."""
    seeds: int = 3
    """Number of seeds; all methods share the start of each."""
    profile: Literal["auto", "paper", "embedded"] | None = None
    """The paper's settings, small ones on generated images, or what the data found allows."""
    root: Path | None = None
    """Folder of the data; otherwise $AL_GYM_DATA/<dataset>."""
    flag: str | None = None
    """Which data set of MedMNIST."""
    budget: float | None = None
    """Share of the training set to label in the end; otherwise the preset's or profile's."""
    query_size: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Samples annotated in a step; otherwise the preset's or profile's."""
    dropout: float | None = None
    """Probability of dropout before the classifier's last layer, which BALD needs."""
    reward: str | None = None
    """What a step pays: misclassification (Eq. 3), f1_gain or loss_gain; it changes what agents
    learn, and what is reported as reward."""
    validation_fraction: float | None = None
    """Share of the training set held out for rewards that need it; otherwise the reward decides."""
    agent: tyro.conf.Suppress[dict[str, Any]] = field(default_factory=dict)
    """Fields of agents.ddpg.DDPGConfig in place of those of the drla agents, from Python only."""
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


@dataclass(frozen=True)
class Experiment:
    """All cells of one data set."""

    name: str
    """Of the folder."""
    preset: str | None
    dataset: str
    settings: dict[str, Any]
    """Keywords of ``gymnasium.make``."""
    methods: tuple[str, ...]


def main(config: RunConfig) -> int:
    """Run every cell that is not finished, print the table; returns the exit status.

    Raises:
        ValueError: an unknown method or preset, settings that do not fit, or a folder with results
            of other settings.
        FileNotFoundError: the data is not there.
    """
    totals: dict[Path, int] = {}
    for experiment in plan(config):
        records, max_steps = prepare(experiment, config)
        for folder, record in records.items():
            cell.create(folder, record)
            totals[folder] = 1 if record["method"] == "all" else max_steps + 1
    open_cells = [folder for folder in totals if not (folder / cell.RESULT).exists()]
    if len(open_cells) < len(totals):
        print(f"{len(totals) - len(open_cells)} of {len(totals)} cells are finished already")
    failed = execute(open_cells, totals, config) if open_cells else {}
    for experiment_results in results.load([config.out]):
        print(f"\n{experiment_results.name}")
        print("\n".join(findings.notes(experiment_results)))
        if not experiment_results.everything.empty:
            print(tables.scores_as_text(experiment_results))
    for folder, problem in failed.items():
        print(f"FAILED {folder}: {problem}", file=sys.stderr)
    print(f"\nTables, figures and tests: python -m benchmarks.report {config.out}")
    return 1 if failed else 0


# --- what to run ----------------------------------------------------------------------------------


def plan(config: RunConfig) -> list[Experiment]:
    """The experiments asked for, by preset or by data set.

    Raises:
        ValueError: see ``main``.
    """
    if bool(config.preset) == bool(config.dataset):
        raise ValueError(f"give either --dataset or --preset, one or more of {' '.join(PRESETS)}")
    for count in ("seeds", "workers", "side_by_side", "threads", "checkpoint_every"):
        if getattr(config, count) < 1:
            raise ValueError(f"{count} must be at least 1, not {getattr(config, count)}")
    if config.side_by_side > 1 and (config.workers > 1 or config.ray is not None):
        raise ValueError("side_by_side is for one process: without workers and ray")
    for name in config.preset:
        if name not in PRESETS:
            raise ValueError(
                f"unknown preset {name!r}, choose from {' '.join(PRESETS)}{hint(name, PRESETS)}"
            )
    chosen: list[tuple[str | None, Preset]] = [(name, PRESETS[name]) for name in config.preset]
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
    if any(value is not None for key, value in given.items() if key != "root"):
        name = None  # no longer the experiment of that name
    settings = preset.settings | {key: value for key, value in given.items() if value is not None}
    chosen = config.methods or preset.methods
    methods.check(chosen)
    flag = settings.get("flag")
    folder = preset.dataset if flag is None else f"{preset.dataset}-{flag}"
    return Experiment(folder, name, preset.dataset, settings, chosen)


def prepare(experiment: Experiment, config: RunConfig) -> tuple[dict[Path, dict[str, Any]], int]:
    """What each cell's ``config.json`` is to hold, by folder, and the steps of a cell.

    The cells go seed by seed, so that a run that is stopped has whole seeds to compare. Nothing is
    written yet; with ``overwrite`` results of other settings are removed.

    Raises:
        ValueError: a folder holds results of other settings, or of a newer version.
        FileNotFoundError: the data is not there.
    """
    shared: dict[str, Any] = {
        "format": cell.FORMAT,
        "preset": experiment.preset,
        "dataset": experiment.dataset,
        "settings": experiment.settings,
        "threads": config.threads,
        "checkpoint_every": config.checkpoint_every,
    }
    env = cell.make_environment(shared)
    n_training, (n_pool,) = env.get_wrapper_attr("run").n_training, env.action_space.shape or (0,)
    budget = env.get_wrapper_attr("run").config.budget
    fractions = statistics.fractions_between(1 - n_pool / n_training, budget)
    shared["retrain_at"] = sorted({*fractions, 1.0}) if config.retrain_eval else []
    # what is compared with earlier files is what JSON makes of it
    shared = json.loads(json.dumps(shared | cell.describe_task(env) | cell.describe_program(env)))
    records = {}
    for seed in range(config.seeds):
        for method in experiment.methods:
            agent = methods.settings(method, env, seed, config.agent)
            record = {**shared, "method": method, "seed": seed, "agent": agent}
            folder = config.out / experiment.name / method / f"seed{seed}"
            records[folder] = json.loads(json.dumps(record))
    place = config.out / experiment.name
    there = {path.parent for path in place.glob(f"*/seed*/{cell.CONFIG}")}
    for folder in sorted(there):  # those of other methods too: all of them are to be compared
        problem = other_settings(folder / cell.CONFIG, records.get(folder, shared))
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
        earlier = json.loads(path.read_text())
    except ValueError:
        return "a config.json that cannot be read"
    if earlier.get("format", 0) > cell.FORMAT:
        raise ValueError(
            f"{path.parent} was made by a newer version of al-gym (format {earlier['format']}, "
            f"this one knows {cell.FORMAT}): update, or choose another --out"
        )
    keys = (*cell.SHARED, "agent") if "agent" in record else cell.SHARED
    different = cell.difference(earlier, record, keys)
    return f"results of other settings ({different})" if different else None


# --- running --------------------------------------------------------------------------------------


def execute(folders: list[Path], totals: dict[Path, int], config: RunConfig) -> dict[Path, str]:
    """Run cells, with one progress bar over all of them; returns what stopped those that failed.

    Args:
        folders: cells to run.
        totals: lines of the curve of every cell, those finished already included.
        config: how to run them.
    """
    if config.ray is not None:
        outcomes = _on_ray(folders, config)
    elif config.workers > 1:
        outcomes = _in_processes(folders, config)
    else:
        outcomes = _in_this_process(folders, config)
    with _progress(totals, config.out.name):
        return {folder: problem for folder, problem in outcomes if problem is not None}


def _in_this_process(folders: list[Path], config: RunConfig) -> Iterator[tuple[Path, str | None]]:
    """One by one, or several of an experiment at a time."""
    alone = [
        folder
        for folder in folders
        if config.side_by_side == 1 or folder.parent.name.startswith("sb3-")
    ]
    for folder in alone:
        yield folder, cell.attempt(folder, tqdm.write)
    for _, experiment in itertools.groupby(
        [folder for folder in folders if folder not in alone], lambda folder: folder.parents[1]
    ):
        yield from _together(list(experiment), config)


def _together(folders: list[Path], config: RunConfig) -> Iterator[tuple[Path, str | None]]:
    """Cells of one experiment, some at a time, all on one vector environment."""
    record = json.loads((folders[0] / cell.CONFIG).read_text())
    n = min(config.side_by_side, len(folders))
    with cell.threads(config.threads):
        try:
            vector = cell.make_vector_environment(record, n)
        except Exception as error:  # too little memory for so many, say
            problem = f"{n} environments side by side could not be made: {error!r}"
            for folder in folders:
                (folder / cell.ERROR).write_text(problem)
                yield folder, problem
            return
        for start in range(0, len(folders), n):
            some = folders[start : start + n]
            programs = [functools.partial(cell.attempt, folder, tqdm.write) for folder in some]
            yield from zip(some, side_by_side.play(vector, programs), strict=True)


def _in_processes(folders: list[Path], config: RunConfig) -> Iterator[tuple[Path, str | None]]:
    """Each cell in a process of its own: whatever kills one leaves the others alone."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(config.threads)}

    def one(folder: Path) -> str | None:
        command = [sys.executable, "-m", "benchmarks.cell", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.stdout:
            tqdm.write(done.stdout.rstrip())
        if done.returncode >= 0:
            return done.stderr.strip().splitlines()[-1] if done.returncode else None
        why = " (out of memory?)" if -done.returncode == signal.SIGKILL else ""
        problem = f"its process was killed by signal {-done.returncode}{why}"
        (folder / cell.ERROR).write_text(problem)
        return problem

    with ThreadPoolExecutor(config.workers) as pool:
        futures = {pool.submit(one, folder): folder for folder in folders}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:  # Ctrl-C reaches the processes too; begin no more of them
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _on_ray(folders: list[Path], config: RunConfig) -> Iterator[tuple[Path, str | None]]:
    """One Ray task a cell; one lost with its worker is started again, from its checkpoint.

    Raises:
        ValueError: Ray is not installed, or there is no cluster.
    """
    try:
        import ray  # an extra: imported where it is needed
    except ImportError:
        raise ValueError("--ray needs Ray: pip install 'al-gym[distributed]'") from None
    names = [name for name in ("AL_GYM_DATA", "AL_GYM_CACHE") if name in os.environ]
    variables = {name: os.environ[name] for name in names}
    options: dict[str, Any] = {"include_dashboard": False} if config.ray == "local" else {}
    options |= {"configure_logging": False, "runtime_env": {"env_vars": variables}}
    try:
        ray.init(address=config.ray, **options)
    except ConnectionError as error:
        raise ValueError(
            f"no Ray cluster at {config.ray!r} ({error}): start one with `ray start --head`, or "
            "use --ray local"
        ) from None
    try:
        task = ray.remote(cell.attempt).options(
            num_cpus=config.threads, num_gpus=config.gpus_per_cell, max_retries=3
        )
        tasks = {task.remote(folder.resolve()): folder for folder in folders}
        waiting = list(tasks)
        while waiting:
            (done,), waiting = ray.wait(waiting, num_returns=1)
            try:
                yield tasks[done], ray.get(done)
            except ray.exceptions.RayError as error:
                yield tasks[done], f"its worker was lost: {error}"
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _progress(totals: dict[Path, int], name: str) -> Iterator[None]:
    """A bar over the steps of all cells, by the lines of their curves: wherever they run."""
    counts = {folder: _lines(folder / cell.CURVE) for folder in totals}
    stop = threading.Event()
    with tqdm(
        total=sum(totals.values()), initial=sum(counts.values()), unit="step", desc=name
    ) as bar:

        def watch() -> None:
            over = False
            while not over:
                over = stop.wait(0.5)  # looks once more after the end
                for folder in totals:
                    if counts[folder] < totals[folder]:
                        counts[folder] = _lines(folder / cell.CURVE)
                bar.n = sum(counts.values())
                done = sum(counts[folder] >= total for folder, total in totals.items())
                bar.set_postfix_str(f"{done} of {len(totals)} cells")

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _lines(curve: Path) -> int:
    """Steps in a curve, its header apart."""
    try:
        return max(0, curve.read_bytes().count(b"\n") - 1)
    except FileNotFoundError:
        return 0


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(RunConfig)))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"benchmarks.run: {error}")
