"""Agents of Stable-Baselines3 in the place of the paper's: DDPG, TD3, SAC, PPO, A2C.

    python examples/stable_baselines3_agents.py --agents td3 sac

``agents.sb3.make`` gives them settings for one run over a pool; ``TD3("MlpPolicy", env)`` works
too. With ``ContextObservation`` they see how many labels each class has.
"""

from dataclasses import dataclass
from typing import Literal

import gymnasium as gym
import tyro

import al_gym  # noqa: F401  (registers the ids)
from agents import sb3
from al_gym.wrappers import ContextObservation


@dataclass(frozen=True)
class Settings:
    """Who learns, and for how long."""

    agents: tuple[Literal["ddpg", "td3", "sac", "ppo", "a2c"], ...] = ("td3", "sac")
    """Algorithms, by name."""
    episodes: int = 1
    """Each of ten steps."""


def main(settings: Settings) -> dict[str, float]:
    """Print and return the macro F1 of each at the end of an episode after its training."""
    env = ContextObservation(
        gym.make("ActiveLearning-chestCT-v0", profile="embedded", query_size=3, budget=56)
    )
    found = {}
    for name in settings.agents:
        agent = sb3.make(name, env, seed=0)
        agent.learn(settings.episodes * env.get_wrapper_attr("max_steps"), progress_bar=False)
        observation, info = env.reset(seed=0)
        terminated = False
        while not terminated:
            action, _ = agent.predict(observation, deterministic=True)
            observation, _, terminated, _, info = env.step(action)
        found[name] = float(info["macro_f1"])
        print(f"{name.upper()}: macro F1 {found[name]:.3f} with {info['n_labelled']} labels")
    return found


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
