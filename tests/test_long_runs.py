"""Runs of many episodes keep to the memory, the files and the threads that they began with."""

import gc
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.ddpg import DDPG, DDPGConfig
from al_gym import ActiveLearningEnv, ActiveLearningVectorEnv, ClassifierConfig, EnvConfig
from tests.samples import make_dataset

TASK = EnvConfig(initial_fraction=0.1, query_size=2, budget=0.5, resample_initial=True)
HEAD = ClassifierConfig(device="cpu", pretrain_passes=1, trainable="head")
NETWORK = ClassifierConfig(device="cpu", pretrain_passes=1)
N = 20_000
"""Steps of the long run; memory is compared after a tenth of them."""

needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc here")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def only_new_objects():
    """Those of all imported modules are neither collected nor looked at, which takes a second."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def data():
    return make_dataset(n_train=24, n_test=9, size=6)


def stepping(env, rng):
    """A function that takes so many steps in an environment, or in several side by side."""
    env.reset(seed=0)
    several = hasattr(env, "num_envs")

    def advance(n):
        for _ in range(n):
            _, _, over, _, _ = env.step(rng.random(env.action_space.shape, np.float32))
            if not several and over:
                env.reset()

    return advance


def single(classifier):
    return stepping(ActiveLearningEnv(data(), TASK, classifier), np.random.default_rng(0))


def vector(classifier):
    return stepping(ActiveLearningVectorEnv(3, data(), TASK, classifier), np.random.default_rng(0))


def ddpg(classifier):
    env = ActiveLearningEnv(data(), TASK, classifier)
    agent = DDPG(env, DDPGConfig(width=16, seed=0, batch_size=8, gradient_steps=1))
    return lambda n: agent.learn(n, log_interval=None, reset_num_timesteps=False)


RUNS = {
    "single, network": lambda: single(NETWORK),
    "single, head": lambda: single(HEAD),
    "vector, head": lambda: vector(HEAD),
    "ddpg, head": lambda: ddpg(HEAD),
}


def tensors():
    """How many are alive."""
    gc.collect()
    # by type, as isinstance asks objects for their class, and some warn then
    return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())


def held():
    """Tensors, open files and threads of this process."""
    n_files = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return tensors(), n_files, threading.active_count()


def resident():
    """MiB of memory that are in use."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@needs_proc
@pytest.mark.parametrize("name", RUNS)
def test_nothing_piles_up(name):
    """Over thirty steps, which are several episodes, to the last tensor."""
    advance = RUNS[name]()
    advance(15)
    before = held()
    advance(30)
    assert held() == before


@needs_proc
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::agents.ddpg.health.UnhealthyAgent")
@pytest.mark.parametrize("name", RUNS)
def test_twenty_thousand_steps_take_no_more_memory_than_two_thousand(name, capsys):
    advance = RUNS[name]()
    advance(N // 10)
    before, memory = held(), resident()
    advance(N - N // 10)
    after = resident()
    with capsys.disabled():
        print(f"\n{name}: {memory:.1f} MiB after {N // 10} steps, {after:.1f} after {N}")
    assert held() == before
    assert after < 1.05 * memory


@pytest.mark.parametrize("classifier", [NETWORK, HEAD], ids=["network", "head"])
@pytest.mark.parametrize("kind", [single, vector])
def test_no_tensor_outlives_its_environment(kind, classifier):
    kind(classifier)(3)  # what PyTorch makes once and keeps
    before = tensors()
    advance = kind(classifier)
    advance(3)
    assert tensors() > before
    env = next(c.cell_contents for c in advance.__closure__ if hasattr(c.cell_contents, "close"))
    env.close()
    del env, advance
    assert tensors() == before
