"""Train the paper's agent for some episodes, and see whether it collects more reward than before.

    python examples/train_the_agent.py --episodes 5

It chooses 30 images of 500, three at a time, on generated CT. The reward is Eq. 3. What counts in
the end is F1, which is another thing: see ``benchmarks/RESULTS.md``.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import tyro

import al_gym  # noqa: F401  (registers the ids)
from agents.ddpg import DDPG, DDPGConfig


@dataclass(frozen=True)
class Settings:
    """How long to train."""

    episodes: int = 5
    """Each of ten steps."""
    budget: int = 56
    """Labels at the end; 26 are there at the start, and a step adds three."""
    seed: int = 0
    """Of everything."""


def deterministic_episode(env: gym.Env[Any, Any], agent: DDPG, seed: int) -> tuple[float, float]:
    """Sum of the rewards of an episode without noise, and the macro F1 at its end."""
    observation, info = env.reset(seed=seed)
    total, terminated = 0.0, False
    while not terminated:
        action, _ = agent.predict(observation, deterministic=True)
        observation, reward, terminated, _, info = env.step(action)
        total += float(reward)
    return total, info["macro_f1"]


def main(settings: Settings) -> list[tuple[float, float]]:
    """Print reward and F1 before and after; returns both."""
    env = gym.make(
        "ActiveLearning-chestCT-v0", profile="embedded", query_size=3, budget=settings.budget
    )
    agent = DDPG(env, DDPGConfig(seed=settings.seed))
    outcomes = [deterministic_episode(env, agent, settings.seed)]
    agent.learn(settings.episodes * env.get_wrapper_attr("max_steps"), progress_bar=True)
    outcomes.append(deterministic_episode(env, agent, settings.seed))
    for when, (total, macro_f1) in zip(("before", "after"), outcomes, strict=True):
        print(f"{when} training: reward {total:.3f}, macro F1 {macro_f1:.3f}")
    return outcomes


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
