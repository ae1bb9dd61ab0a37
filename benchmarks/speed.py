"""How fast we are, beside what people would use instead, in one process.

    python -m benchmarks.speed --rounds 15 --json speed.json
    python -m benchmarks.speed --device cuda --profile paper --json paper.json

Contestants take turns, in an order that is swapped every round, so that a machine that slows down
slows all; what counts is the ratio within a round. An idle machine is still needed: PyTorch's
threads wait for one another. ``benchmarks.speed_peers`` has the loops of others, and
``benchmarks.speed_paper`` the paper's two runs on a GPU.
"""

import functools
import json
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import stable_baselines3 as sb3
import torch
import tyro
from PIL import Image
from stable_baselines3.common import logger
from torch import nn
from tqdm import tqdm

from agents import TransferPolicy
from agents.ddpg import DDPG, DDPGConfig
from agents.sets.networks import SetActor
from agents.sets.pool_features import describe
from al_gym import (
    ActiveLearningEnv,
    ActiveLearningVectorEnv,
    ClassifierConfig,
    EnvConfig,
    ImageDataset,
)  # fmt: skip
from al_gym.classifiers.networks import NetworkClassifier, network_over
from al_gym.data import cache, phantoms
from benchmarks import speed_paper, speed_peers
from benchmarks.cell import device_name
from benchmarks.speed_paper import flops_of, step_of

Work = Callable[[], Any]
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


# --- 1: a step of the environment -----------------------------------------------------------------

TARGETS = {"DataLoader loop": 1.6, "baal's ModelWrapper": 2.0}
"""How many times as fast as each of them we want to be."""
CAMERA = (2592, 1944)
"""Pixels of a photograph of EyePACS, or somewhat fewer; phantoms are drawn smaller."""


def environment_steps(rounds: int) -> list[Comparison]:
    """The step of the embedded environments beside the loops that people write.

    A fifth of the images is labelled. A step trains one pass over them, predicts the pool and
    scores the test set; the loops do that too, for the whole pool, with the same network.
    """
    return [
        *_beside_others("Retinopathy", rounds),
        *_beside_others("chestCT", rounds),
        _beside_files(rounds),
    ]


def _beside_others(dataset: str, rounds: int) -> list[Comparison]:
    env = _embedded(dataset, "fp32")
    read = speed_peers.from_memory(env.run.dataset)
    makers: dict[str, Callable[[], Work]] = {
        "DataLoader loop": lambda: speed_peers.data_loader_loop(env, read),
        "baal's ModelWrapper": lambda: speed_peers.baal_loop(env, read),
        "skorch": lambda: speed_peers.skorch_loop(env),
        "the network alone": lambda: speed_peers.network_alone(env),
    }
    peers = {}
    for name, make in makers.items():
        try:
            peers[name] = make()
        except ImportError as error:
            warnings.warn(f"{name} is left out: {error}", stacklevel=2)
    contestants = {"ours": step_of(env), "bf16": step_of(_embedded(dataset, "bf16")), **peers}
    times = take_turns(f"steps, {dataset}", contestants, rounds=rounds)
    title = f"step, {dataset} {'x'.join(map(str, env.run.dataset.images.shape[2:]))}"
    in_bf16 = Comparison(
        f"{title}, bf16", times["bf16"], times["DataLoader loop"], "DataLoader loop", 2.5
    )
    return [
        *(Comparison(title, times["ours"], times[p], p, TARGETS.get(p)) for p in peers),
        in_bf16,
    ]


def _beside_files(rounds: int) -> Comparison:
    """The loop that opens its photographs in every step, at the size that cameras write."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "photographs"
        phantoms.write_retinopathy(root, 320, 0)
        photographs = sorted((root / "train").glob("*.jpeg"))

        def enlarge(i: int) -> None:
            with Image.open(photographs[i]) as image:
                large = image.resize(CAMERA, Image.Resampling.BICUBIC)
            large.save(photographs[i], quality=90)

        cache.in_threads(enlarge, len(photographs), "enlarging")
        env = _embedded("Retinopathy", "fp32", root=str(root), n_train=200, n_test=100)
        paths = speed_peers.photographs(root, env.run.dataset)
        read = speed_peers.from_files(paths, env.run.dataset.images.shape[-1])
        contestants = {"ours": step_of(env), "theirs": speed_peers.data_loader_loop(env, read)}
        times = take_turns("steps, files", contestants, rounds=rounds)
    return Comparison(
        "step, 300 photographs of 2592x1944", times["ours"], times["theirs"],
        "DataLoader loop from files", 20.0,
    )  # fmt: skip


def _embedded(dataset: str, precision: str, **change: Any) -> ActiveLearningEnv:
    settings = {
        "profile": "embedded", "initial_fraction": 0.2, "pretrain_passes": 1,
        "learning_rate": 1e-4, "precision": precision, "device": "cpu",
    }  # fmt: skip
    env = speed_paper.make(dataset, settings | change)
    env.reset(seed=0)
    return env


# --- 2: the machine's peak ------------------------------------------------------------------------

NETWORKS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("small3d", (2, 32, 32, 32)), ("small3d", (2, 16, 16, 16)), ("small2d", (3, 64, 64)),
)  # fmt: skip


def fractions_of_peak(rounds: int) -> dict[str, float]:
    """FLOPs a second of inference and training, over those of the best large convolution."""
    contestants = dict(_largest())
    flops = {name: flops_of(work) for name, work in contestants.items()}
    for network, shape in NETWORKS:
        classifier, rows, labels = _on_noise(network, shape)
        key = f"{network} {'x'.join(map(str, shape[1:]))}"
        works: dict[str, Work] = {
            f"{key}, pool inference": functools.partial(classifier.predict, np.arange(64)),
            f"{key}, training": functools.partial(_pass, classifier, rows, labels),
        }
        flops |= {name: flops_of(work) for name, work in works.items()}
        contestants |= works
    times = take_turns("peak", contestants, rounds=rounds)
    speed = {name: flops[name] / statistics.median(times[name]) / 1e9 for name in contestants}
    peak = max(value for name, value in speed.items() if name.startswith("convolution"))
    measured = {f"{name}, GFLOP/s": value for name, value in speed.items()}
    for name in speed:
        if name.startswith("small"):
            measured[f"{name}, of the convolutions' peak"] = speed[name] / peak
    return measured


def _largest() -> list[tuple[str, Work]]:
    """Large convolutions and a matrix product, as the machine likes them best."""
    works: list[tuple[str, Work]] = []
    for channels, size, batch in ((64, 32, 4), (128, 16, 8), (256, 16, 4)):
        convolution = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        convolution = convolution.to(memory_format=torch.channels_last_3d)
        inputs = torch.rand(batch, channels, size, size, size)
        inputs = inputs.contiguous(memory_format=torch.channels_last_3d)
        works.append((f"convolution {channels} x {size}^3", _frozen(convolution, inputs)))
    flat = nn.Conv2d(256, 256, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    inputs = torch.rand(16, 256, 32, 32).contiguous(memory_format=torch.channels_last)
    works.append(("convolution 256 x 32^2", _frozen(flat, inputs)))
    works.append(
        ("matrix product 2048", _frozen(nn.Linear(2048, 2048, bias=False), torch.rand(2048, 2048)))
    )
    return works


def _frozen(module: nn.Module, inputs: torch.Tensor) -> Work:
    @torch.no_grad()
    def work() -> None:
        module(inputs)

    return work


def _pass(classifier: NetworkClassifier, rows: np.ndarray, labels: np.ndarray) -> None:
    speed_peers.train(classifier, rows, labels)


def _on_noise(
    network: str, shape: tuple[int, ...]
) -> tuple[NetworkClassifier, np.ndarray, np.ndarray]:
    """A classifier with 64 images of noise, and 48 rows with labels to train on."""
    images = np.random.default_rng(0).integers(0, 255, (64, *shape), dtype=np.uint8)
    config = ClassifierConfig(network=network, device="cpu")
    classifier = network_over(images, np.arange(64), 4, config)
    return classifier, np.arange(48), np.arange(48) % 4


# --- 3: the agent ---------------------------------------------------------------------------------


class PaperSizedSpaces(gym.Env[Any, Any]):
    """The spaces of the paper's chestCT run: 3,325 samples of 4 classes; it is never stepped."""

    observation_space = gym.spaces.Box(0, 1, (3325, 4), np.float32)
    action_space = gym.spaces.Box(0, 1, (3325,), np.float32)
    max_steps = 665


def agent_update(rounds: int, units: int = 10) -> Comparison:
    """A gradient step of our DDPG beside SB3's, with a full replay buffer of the paper's run."""
    env = PaperSizedSpaces()
    ours = DDPG(env, DDPGConfig(seed=0, device="cpu"))
    theirs = sb3.DDPG(
        "MlpPolicy", env, buffer_size=env.max_steps, batch_size=16, learning_rate=1e-3, seed=0,
        policy_kwargs={"net_arch": [256, 256]}, device="cpu",
    )  # fmt: skip
    theirs.set_logger(logger.Logger(None, []))
    assert theirs.replay_buffer is not None
    rng = np.random.default_rng(0)
    state = rng.random(env.observation_space.shape, np.float32)
    ours.buffer.start(torch.from_numpy(state.ravel()))
    for _ in range(env.max_steps):
        following = rng.random(env.observation_space.shape, np.float32)
        action = rng.random(env.action_space.shape, np.float32)
        flat = torch.from_numpy(following.ravel())
        ours.buffer.add(torch.from_numpy(action), 0.5, flat, terminated=False)
        theirs.replay_buffer.add(
            state, following, 2 * action - 1, np.array([0.5]), np.array([False]), [{}]
        )
        state = following

    def our_steps() -> None:
        for _ in range(units):
            ours.train_step(ours.buffer.sample(16))

    def their_steps() -> None:
        for _ in range(units):
            theirs.train(gradient_steps=1, batch_size=16)

    times = take_turns(
        "agent", {"ours": our_steps, "theirs": their_steps}, rounds=rounds, units=units
    )
    return Comparison(
        "DDPG gradient step, 3,325 x 4", times["ours"], times["theirs"], "SB3's DDPG.train(1)", 2.0
    )


# --- 4: growth ------------------------------------------------------------------------------------


def growth(rounds: int) -> tuple[list[Comparison], dict[str, dict[str, float]]]:
    """Milliseconds of a step against the pool, the labelled set and the number of environments."""
    pool = {
        f"pool of {n:,}, 64 features": _on_features(n, 64, n_labelled=50)
        for n in (100, 1_000, 10_000, 100_000)
    }
    labelled = {
        f"{n:,} of 3,500 labelled, 2,048 features": _on_features(3_500, 2_048, n_labelled=n)
        for n in (175, 700, 1_750, 3_000)
    }
    several = {n: _on_features(3_500, 2_048, n_labelled=700, n_envs=n) for n in (1, 4, 16)}
    tables = {}
    for title, envs in (("growth with the pool, ms", pool), ("growth with labels, ms", labelled)):
        times = take_turns(title, {k: step_of(e) for k, e in envs.items()}, rounds=rounds)
        tables[title] = {name: 1e3 * statistics.median(times[name]) for name in envs}
    title = "growth with environments, 700 of 3,500 x 2,048 labelled"
    times = take_turns(title, {str(n): step_of(e) for n, e in several.items()}, rounds=rounds)
    tables[f"{title}, steps a second"] = {
        f"{n} at once": n / statistics.median(times[str(n)]) for n in several
    }
    one, sixteen = times["1"], tuple(seconds / 16 for seconds in times["16"])
    comparison = Comparison("step of 16 heads at once", sixteen, one, "one environment", 4.0)
    acting: dict[str, Work] = {}
    for n in (1_000, 30_000, 1_000_000):
        acting |= _acting_on(n)
    title = "acting on a pool of 4 classes, ms"
    times = take_turns(title, acting, rounds=rounds)
    tables[title] = {name: 1e3 * statistics.median(times[name]) for name in acting}
    return [comparison], tables


def _acting_on(n: int) -> dict[str, Work]:
    """A step of agents for any pool: describe it and score it; ``drla-transfer`` also ranks."""
    policy = TransferPolicy()
    policy.diversity[0] = 0.5
    actor = SetActor(generator=torch.Generator().manual_seed(0)).requires_grad_(False)
    softmax = np.random.default_rng(0).dirichlet(np.ones(4), n).astype(np.float32)
    observation = {
        "softmax": softmax,
        "class_counts": np.array([20, 10, 15, 5], np.float32),
        "labelled_fraction": np.array([0.1], np.float32),
    }
    return {
        f"{n:,} samples, drla-transfer": lambda: policy.predict(observation),
        f"{n:,} samples, drla-set": lambda: actor.scores(describe(observation)),
    }


def _on_features(
    n: int, n_features: int, *, n_labelled: int, n_envs: int = 1
) -> ActiveLearningEnv | ActiveLearningVectorEnv:
    """Environments over n training images that are their own features, and as many for the test."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (2 * n, 1, 8, n_features // 8), dtype=np.uint8)
    labels = np.arange(2 * n) % 4
    rows = np.arange(2 * n)
    dataset = ImageDataset(images, labels, tuple("abcd"), rows, rows[:n], rows[n:], "noise")
    network = nn.Sequential(nn.Flatten(), nn.Linear(n_features, 4))
    task = EnvConfig(initial_fraction=n_labelled / n, query_size=5)
    settings = ClassifierConfig(
        network=network, trainable="head", pretrain_passes=1, momentum=0.9, device="cpu"
    )
    if n_envs == 1:
        env: ActiveLearningEnv | ActiveLearningVectorEnv = ActiveLearningEnv(
            dataset, task, settings
        )
    else:
        env = ActiveLearningVectorEnv(n_envs, dataset, task, settings)
    env.reset(seed=0)
    return env


# --------------------------------------------------------------------------------------------------


def measure(config: SpeedConfig) -> Report:
    """All parts that are asked for."""
    report = Report()
    if config.profile is not None:
        report.numbers = speed_paper.measure(config.profile, config.device, config.whole)
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
