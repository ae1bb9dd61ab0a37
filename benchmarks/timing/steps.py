"""The step of the environment beside the loops that people write."""

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from al_gym import ActiveLearningEnv
from al_gym.classifiers.devices import lacks_bf16
from al_gym.data import cache, phantoms
from benchmarks.timing import paper, peers
from benchmarks.timing.paper import step_of
from benchmarks.timing.turns import Comparison, Work, take_turns

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
    read = peers.from_memory(env.run.dataset)
    makers: dict[str, Callable[[], Work]] = {
        "DataLoader loop": lambda: peers.data_loader_loop(env, read),
        "baal's ModelWrapper": lambda: peers.baal_loop(env, read),
        "skorch": lambda: peers.skorch_loop(env),
        "the network alone": lambda: peers.network_alone(env),
    }
    others = {}
    for name, make in makers.items():
        try:
            others[name] = make()
        except ImportError as error:
            warnings.warn(f"{name} is left out: {error}", stacklevel=2)
    contestants = {"ours": step_of(env), **others}
    emulated = lacks_bf16(env.run.classifiers.device)
    if emulated:
        warnings.warn("bf16 is left out: this machine would only emulate it", stacklevel=2)
    else:
        contestants["bf16"] = step_of(_embedded(dataset, "bf16"))
    times = take_turns(f"steps, {dataset}", contestants, rounds=rounds)
    title = f"step, {dataset} {'x'.join(map(str, env.run.dataset.images.shape[2:]))}"
    found = [Comparison(title, times["ours"], times[p], p, TARGETS.get(p)) for p in others]
    if not emulated:
        peer = "DataLoader loop"
        found.append(Comparison(f"{title}, bf16", times["bf16"], times[peer], peer, 2.5))
    return found


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
        paths = peers.photographs(root, env.run.dataset)
        read = peers.from_files(paths, env.run.dataset.images.shape[-1])
        contestants = {"ours": step_of(env), "theirs": peers.data_loader_loop(env, read)}
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
    env = paper.make(dataset, settings | change)
    env.reset(seed=0)
    return env
