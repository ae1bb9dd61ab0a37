"""Run active-learning methods on a data set, every one from the same starts, and compare them.

    python -m benchmarks.run --dataset chestCT --methods random ms all --seeds 3 --out runs/first

makes one folder a (data set, method, seed) with ``config.json`` and ``curve.csv``, then prints a
table and draws ``curves.png``.
"""

import csv
import json
import platform
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, SupportsFloat, TextIO

import gymnasium as gym
import tyro
from tqdm import tqdm

import envs_registry
from agents import sb3, strategies
from agents.ddpg import DDPG, DDPGConfig
from benchmarks import summary

METHODS = (*strategies.NAMES, "all", "drla", *(f"sb3-{name}" for name in sb3.ALGORITHMS))
PACKAGES = (
    "al-gym", "torch", "torchvision", "gymnasium", "stable-baselines3", "numpy", "SimpleITK",
)  # fmt: skip


@dataclass(frozen=True)
class RunConfig:
    """Run active-learning methods on a data set and compare them."""

    dataset: Literal["chestCT", "Retinopathy", "MedMNIST", "Folder"]
    """Data set to learn on."""
    methods: tuple[str, ...]
    """Methods to compare: random lc ms en fusion all; drla; sb3-ddpg sb3-td3 sb3-sac sb3-ppo
    sb3-a2c."""
    out: Path
    """Folder for the results."""
    seeds: int = 3
    """Number of seeds; all methods share the start of each."""
    profile: Literal["auto", "paper", "embedded"] = "auto"
    """The paper's settings, small ones on generated images, or what the data found allows."""
    root: Path | None = None
    """Folder of the data; otherwise $AL_GYM_DATA/<dataset>."""
    flag: str | None = None
    """Which data set of MedMNIST."""
    budget: float | None = None
    """Share of the training set to label in the end; otherwise the profile's."""
    query_size: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Samples annotated in a step; otherwise the profile's."""


def main(config: RunConfig) -> None:
    """Run every cell, print the table, draw the curves.

    Raises:
        ValueError: an unknown method, no seeds, or a folder with results of other settings.
        FileNotFoundError: the data is not there.
    """
    env, records = prepare(config)
    max_steps = env.get_wrapper_attr("max_steps")
    n_steps = sum(1 if method == "all" else max_steps + 1 for method, _ in records)
    with tqdm(total=n_steps, unit="step", desc=config.dataset) as bar:
        for (method, seed), record in records.items():
            bar.set_postfix_str(f"{method}, seed {seed}")
            folder = cell_folder(config, method, seed)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.json").write_text(json.dumps(record, indent=2))
            run_cell(env, method, seed, folder / "curve.csv", bar)
    curves = {
        cell: summary.read_curve(cell_folder(config, *cell) / "curve.csv") for cell in records
    }
    print(summary.table(curves))
    figure = dataset_folder(config) / "curves.png"
    summary.draw_curves(curves, figure, title=env.get_wrapper_attr("dataset").source)
    print(f"\nCurves: {figure}")


def prepare(config: RunConfig) -> tuple[gym.Env[Any, Any], dict[summary.Cell, dict[str, Any]]]:
    """The environment, and what each cell's ``config.json`` is to hold; nothing is written yet.

    The cells go seed by seed: the methods of a seed share a start, which is then pretrained once.

    Raises:
        ValueError: as ``main``.
        FileNotFoundError: as ``main``.
    """
    for method in config.methods:
        if method not in METHODS:
            raise ValueError(f"unknown method {method!r}, choose from {' '.join(METHODS)}")
    if not config.methods:
        raise ValueError(f"no methods given, choose from {' '.join(METHODS)}")
    if len(set(config.methods)) < len(config.methods):
        raise ValueError(f"a method is named twice: {' '.join(config.methods)}")
    if config.seeds < 1:
        raise ValueError(f"seeds must be at least 1, not {config.seeds}")
    env = make_environment(config)
    shared = describe(config, env)
    records = {
        (method, seed): {"method": method, "seed": seed, **shared}
        for seed in range(config.seeds)
        for method in config.methods
    }
    for cell, record in records.items():
        _refuse_other_settings(cell_folder(config, *cell) / "config.json", record)
    return env, records


def make_environment(config: RunConfig) -> gym.Env[Any, Any]:
    """The environment of a run, through the registry."""
    settings: dict[str, Any] = {
        "profile": config.profile,
        "root": None if config.root is None else str(config.root),
        "flag": config.flag,
        "budget": config.budget,
        "query_size": config.query_size,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    for env_id, entry in envs_registry.ENVIRONMENTS.items():
        if entry["dataset"] == config.dataset:
            return gym.make(env_id, **given)
    raise ValueError(f"no environment for the data set {config.dataset!r}")


class CurveWriter(gym.Wrapper[Any, Any, Any, Any]):
    """Writes a line of ``curve.csv`` for the start and for every step of the first episode.

    What comes after it, as when an agent fills its last rollout, is not recorded.

    Args:
        env: the environment.
        file: open for writing.
        bar: is advanced by one a line.
    """

    def __init__(self, env: gym.Env[Any, Any], file: TextIO, bar: "tqdm[Any]") -> None:
        super().__init__(env)
        self._writer = csv.writer(file)
        self._writer.writerow(summary.COLUMNS)
        self._bar = bar
        self._step = 0
        self._over = False
        self._began = time.perf_counter()

    def reset(self, **settings: Any) -> tuple[Any, dict[str, Any]]:
        """Reset, and write the start if it is the first."""
        observation, info = self.env.reset(**settings)
        if self._step == 0:
            self._write(info, reward="")
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step, and write what it brought."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if not self._over:
            self._step += 1
            self._write(info, reward)
        self._over = self._over or terminated
        return observation, reward, terminated, truncated, info

    def write_fully_supervised(self) -> None:
        """Write the one line of ALL instead."""
        scores = self.get_wrapper_attr("fully_supervised_scores")()
        everything = self.get_wrapper_attr("n_training")
        info = {"n_labelled": everything, "labelled_fraction": 1.0}
        self._write({**info, "macro_f1": scores.macro_f1, "micro_f1": scores.micro_f1}, reward="")

    def _write(self, info: dict[str, Any], reward: Any) -> None:
        now = time.perf_counter()
        values = [info[name] for name in summary.COLUMNS[1:5]]
        self._writer.writerow([self._step, *values, reward, f"{now - self._began:.4f}"])
        self._bar.update()
        self._began = now


def run_cell(env: gym.Env[Any, Any], method: str, seed: int, curve: Path, bar: "tqdm[Any]") -> None:
    """One episode of one method; a line of ``curve`` a step, the first for the start.

    Agents that learn do so online, as Algorithm 1 does: the episode they are measured on is the
    one they learn from.

    Args:
        env: the environment, whose reset with ``seed`` gives every method the same start.
        method: one of ``METHODS``.
        seed: of the environment and of the method.
        curve: csv file to write.
        bar: is advanced by one a line.
    """
    max_steps = env.get_wrapper_attr("max_steps")
    with curve.open("w", newline="") as file:
        recorded = CurveWriter(env, file, bar)
        if method == "all":
            env.reset(seed=seed)
            recorded.write_fully_supervised()
        elif method == "drla":
            DDPG(recorded, DDPGConfig(seed=seed)).learn(max_steps)
        elif method.startswith("sb3-"):
            sb3.make(method.removeprefix("sb3-"), recorded, seed).learn(max_steps)
        else:
            query_size = env.get_wrapper_attr("config").query_size
            agent = strategies.make(method, query_size=query_size, seed=seed)
            observation, _ = recorded.reset(seed=seed)
            terminated = False
            while not terminated:
                action, _ = agent.predict(observation)
                observation, _, terminated, _, _ = recorded.step(action)


def describe(config: RunConfig, env: gym.Env[Any, Any]) -> dict[str, Any]:
    """Everything but method and seed that decides a curve."""
    dataset = env.get_wrapper_attr("dataset")
    return {
        "dataset": config.dataset,
        "source": dataset.source,
        "fingerprint": dataset.fingerprint(),
        "environment": asdict(env.get_wrapper_attr("config")),
        "classifier": asdict(env.get_wrapper_attr("classifier_config")),
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
    }


def dataset_folder(config: RunConfig) -> Path:
    """Where a run keeps what it finds on a data set."""
    name = config.dataset if config.flag is None else f"{config.dataset}-{config.flag}"
    return config.out / name


def cell_folder(config: RunConfig, method: str, seed: int) -> Path:
    """Where a run keeps one method's curve for one seed."""
    return dataset_folder(config) / method / f"seed{seed}"


def _refuse_other_settings(path: Path, record: dict[str, Any]) -> None:
    """Results of the same settings are written again; those of others are not lost."""
    if not path.exists():
        return
    earlier = json.loads(path.read_text())
    wanted = json.loads(json.dumps(record))
    different = [key for key in wanted if key != "versions" and earlier.get(key) != wanted[key]]
    if different:
        raise ValueError(
            f"{path.parent} holds results of other settings ({', '.join(different)}); "
            "choose another --out, or remove that folder"
        )


if __name__ == "__main__":
    try:
        main(tyro.cli(RunConfig))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"benchmarks.run: {error}")
