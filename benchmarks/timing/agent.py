"""A gradient step of our DDPG beside that of Stable-Baselines3."""

from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3 as sb3
import torch
from stable_baselines3.common import logger

from agents.ddpg import DDPG, DDPGConfig
from benchmarks.timing.turns import Comparison, take_turns


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
