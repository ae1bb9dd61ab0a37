"""Environments in forked children, where PyTorch's threads are not."""

import multiprocessing
import subprocess
import sys

import pytest

PROGRAM = """
import gymnasium as gym, numpy as np, torch
from stable_baselines3.common.vec_env import SubprocVecEnv
from al_gym import ActiveLearningEnv, EnvConfig
from tests.samples import FAST, make_dataset

def make():
    return ActiveLearningEnv(make_dataset(), EnvConfig(initial_fraction=0.1, query_size=4), FAST)

torch.set_num_threads(2)
env = make()
env.reset(seed=0)
env.step(env.action_space.sample())  # the parent has used its threads
large = torch.rand(1000, 1000)
(large @ large).sum()

envs = gym.vector.AsyncVectorEnv([make, make], context="fork")
envs.reset(seed=0)
observations, *_ = envs.step(envs.action_space.sample())
print("gymnasium", observations.shape, flush=True)
envs.close()

envs = SubprocVecEnv([make, make], start_method="fork")
envs.seed(0)
envs.reset()
observations, *_ = envs.step(np.stack([envs.action_space.sample()] * 2))
print("stable-baselines3", observations.shape, flush=True)
envs.close()
"""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_forked_child_does_not_wait_for_its_parents_threads():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["gymnasium (2, 72, 3)", "stable-baselines3 (2, 72, 3)"]
