"""Short trajectories of every way to train a classifier, from actions that depend on no prediction.

A rounding that differs from one processor to another can then not change what is labelled: the
numbers stay comparable everywhere, and where the processor and PyTorch are those of the recording
they must be equal to the last bit.
"""

import platform
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from al_gym import ActiveLearningEnv, ActiveLearningVectorEnv, ClassifierConfig, EnvConfig
from tests.samples import make_dataset

FOLDER = Path(__file__).parent
CURVES = FOLDER / "curves.npz"
N_STEPS = 4
TASK: dict[str, Any] = {"initial_fraction": 0.1, "query_size": 5}
TRAINED: dict[str, Any] = {
    "learning_rate": 0.02, "momentum": 0.9, "pretrain_passes": 3, "device": "cpu",
}  # fmt: skip
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "network": ({}, {}),
    "network, weight decay": ({}, {"momentum": 0.0, "weight_decay": 0.01, "batch_size": 7}),
    "head": ({}, {"trainable": "head", "update_passes": 2}),
    "network with dropout": ({}, {"dropout": 0.3}),
    "head with dropout": ({}, {"trainable": "head", "dropout": 0.3}),
    "validation reward, f1": ({"reward": "f1_gain"}, {}),
    "validation reward, loss": ({"reward": "loss_gain"}, {"trainable": "head"}),
    "from scratch": ({}, {"update": "scratch"}),
    "head from scratch": ({}, {"update": "scratch", "trainable": "head"}),
    "reward after the update": ({"reward_timing": "after_update"}, {}),
    "head, reward after the update": ({"reward_timing": "after_update"}, {"trainable": "head"}),
    "labelled rows predicted": ({"labelled_rows": "predict"}, {}),
    "wrong labels, rare looks": ({"label_noise": 0.3, "eval_every": 3}, {}),
    "new starts": ({"resample_initial": True}, {"trainable": "head"}),
    "to the end": ({"budget": 0.3}, {}),
}
"""Name -> what differs from ``TASK`` and from ``TRAINED``."""
VECTORS = ("network", "head", "head with dropout", "validation reward, loss")
"""Cases that three environments also play side by side."""
FIELDS = ("macro_f1", "micro_f1", "labelled_fraction")


def machine() -> str:
    """What decides the last bits: the processor, its instructions and PyTorch."""
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    found = [re.search(rf"^{key}\s*:\s*(.*)$", text, re.M) for key in ("cpu family", "model")]
    numbers = " ".join(match.group(1) for match in found if match)
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()} {numbers} {capability} torch {torch.__version__}"


def single(name: str) -> dict[str, np.ndarray]:
    """Two episodes of a case: a seeded one, and what follows it without a seed."""
    task, trained = CASES[name]
    env = ActiveLearningEnv(
        make_dataset(), EnvConfig(**{**TASK, **task}), ClassifierConfig(**{**TRAINED, **trained})
    )
    rng = np.random.default_rng(11)
    seen: list[dict[str, Any]] = []
    for seed, n_steps in ((3, N_STEPS), (None, 2)):
        observation, info = env.reset(seed=seed)
        seen.append({"observation": observation, "reward": 0.0, "over": False, **info})
        for _ in range(n_steps):
            observation, reward, over, _, info = env.step(_action(rng, env.action_space))
            seen.append({"observation": observation, "reward": reward, "over": over, **info})
            if over:
                break
    return _arrays(seen)


def vector(name: str) -> dict[str, np.ndarray]:
    """An episode of a case, three environments side by side."""
    task, trained = CASES[name]
    envs = ActiveLearningVectorEnv(
        3, make_dataset(), EnvConfig(**{**TASK, "budget": 0.3, **task}),
        ClassifierConfig(**{**TRAINED, **trained}),
    )  # fmt: skip
    rng = np.random.default_rng(12)
    observation, info = envs.reset(seed=3)
    zeros = np.zeros(3)
    seen = [{"observation": observation, "reward": zeros, "over": zeros.astype(bool), **info}]
    for _ in range(6):  # the third or fourth of them ends the episode, the next begins another
        observation, reward, over, _, info = envs.step(_action(rng, envs.action_space))
        seen.append({"observation": observation, "reward": reward, "over": over, **info})
    return _arrays(seen)


def _action(rng: np.random.Generator, space: gym.Space[Any]) -> np.ndarray:
    """Few different scores, so that ties take part."""
    return rng.integers(0, 8, space.shape).astype(np.float32) / 8


def _arrays(seen: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    arrays = {key: np.stack([each[key] for each in seen]) for key in ("reward", "over", *FIELDS)}
    arrays["available"] = np.stack([each["available"] for each in seen])
    arrays["observation"] = np.stack([each["observation"] for each in seen])
    return arrays
