"""A seed gives the same bits in another process, whose sets and dictionaries hash otherwise."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import torch

from agents.ddpg import DDPG, DDPGConfig
from al_gym import ActiveLearningVectorEnv
from tests.al_gym.episodes import TASK, make, run
from tests.samples import FAST, make_dataset


def digest() -> str:
    """Of an episode, of two side by side, and of an agent that has learned on one."""
    torch.set_num_threads(1)
    data = make_dataset()
    shown = [np.asarray(each) for each in run(make(data))]
    envs = ActiveLearningVectorEnv(2, data, TASK, FAST)
    shown.append(envs.reset(seed=0)[0])
    shown += [envs.step(np.eye(*envs.action_space.shape))[i] for i in (0, 1)]
    agent = DDPG(make(data), DDPGConfig(width=16, seed=0)).learn(4)
    shown += [each.detach().numpy() for each in agent.actor.parameters()]
    return hashlib.blake2b(b"".join(each.tobytes() for each in shown)).hexdigest()


def test_another_process_gives_the_same_bits():
    threads = torch.get_num_threads()
    try:
        here = digest()
    finally:
        torch.set_num_threads(threads)
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_repeatable"],
        env=os.environ | {"PYTHONHASHSEED": "12345"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.strip() == here, done.stderr


if __name__ == "__main__":
    print(digest())
