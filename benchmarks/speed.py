"""How fast we are, beside what people would use instead, in one process.

    python -m benchmarks.speed --rounds 15 --json speed.json

Contestants take turns, in an order that is swapped every round, so that a machine that slows down
slows both; what counts is the ratio within a round. An idle machine is still needed: PyTorch's
threads wait for one another.
"""

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3 as sb3
import torch
import tyro
from stable_baselines3.common import logger
from tqdm import tqdm

from agents.ddpg import DDPG, DDPGConfig


@dataclass(frozen=True)
class SpeedConfig:
    """Measure our code beside what people would use instead."""

    rounds: int = 15
    """Turns of each contestant; odd ones in the opposite order."""
    threads: int | None = None
    """Of PyTorch; otherwise as it chooses."""
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
    target: float
    """The ratio that we want at least."""

    @property
    def ratios(self) -> list[float]:
        """How many times as fast we were, round by round."""
        return [theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    def line(self) -> str:
        """For the terminal: medians, ratio with the middle half of the rounds, target."""
        ours, theirs = (1e3 * statistics.median(times) for times in (self.ours, self.theirs))
        low, _, high = statistics.quantiles(self.ratios, n=4)
        return (
            f"{self.name:<44}{ours:9.2f} ms  {self.peer:<24}{theirs:9.2f} ms   "
            f"{statistics.median(self.ratios):5.2f}x [{low:.2f}, {high:.2f}], target {self.target}x"
        )


def take_turns(
    name: str,
    ours: Callable[[], None],
    theirs: Callable[[], None],
    *,
    units: int,
    rounds: int,
    peer: str,
    target: float,
) -> Comparison:
    """Time both contestants in turns, after a round to warm up.

    Args:
        name: of the work.
        ours: does ``units`` units of work.
        theirs: does the same.
        units: how many.
        rounds: turns of each.
        peer: name of the other contestant.
        target: the ratio that we want at least.
    """
    ours()
    theirs()
    times: dict[Callable[[], None], list[float]] = {ours: [], theirs: []}
    for turn in tqdm(range(rounds), desc=name, unit="round"):
        for contestant in (ours, theirs) if turn % 2 else (theirs, ours):
            before = time.perf_counter()
            contestant()
            times[contestant].append((time.perf_counter() - before) / units)
    return Comparison(name, tuple(times[ours]), tuple(times[theirs]), peer, target)


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

    return take_turns(
        "DDPG gradient step, 3,325 x 4", our_steps, their_steps, units=units, rounds=rounds,
        peer="SB3's DDPG.train(1)", target=2.0,
    )  # fmt: skip


def main(config: SpeedConfig) -> int:
    """Measure, print a table, write the file; returns the exit status.

    Raises:
        ValueError: too few rounds.
    """
    if config.rounds < 2:
        raise ValueError(f"rounds must be at least 2, not {config.rounds}")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    comparisons = [agent_update(config.rounds)]
    print(f"{torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}")
    for comparison in comparisons:
        print(comparison.line())
    if config.json is not None:
        report = {
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
            "torch": torch.__version__,
            "comparisons": {
                c.name: {"ours": c.ours, "theirs": c.theirs, "peer": c.peer, "ratios": c.ratios}
                for c in comparisons
            },
        }
        config.json.parent.mkdir(parents=True, exist_ok=True)
        config.json.write_text(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(SpeedConfig, description=__doc__)))
    except ValueError as error:
        sys.exit(f"benchmarks.speed: {error}")
