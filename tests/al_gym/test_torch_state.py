"""Whatever the caller has set of PyTorch, the environment computes the same, and leaves it set."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from al_gym import ActiveLearningVectorEnv
from al_gym.classifiers.torch_state import own_torch_state
from tests.al_gym.episodes import TASK, assert_equal, make, run
from tests.samples import FAST, make_dataset

CLASSIFIERS = {
    "network": replace(FAST, dropout=0.2, weight_decay=0.01),
    "head": replace(FAST, trainable="head"),
}


@pytest.fixture(scope="module")
def dataset():
    return make_dataset(n_train=40, n_test=12, size=8)


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


CALLERS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "device": lambda: torch.device("meta"),
}


def state():
    """All that a caller may have set."""
    return (
        torch.is_grad_enabled(), torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"),
        torch.get_default_dtype(), torch.get_default_device(),
    )  # fmt: skip


def everything(dataset, classifier):
    """What every entry of a single environment gives, in one list of arrays and numbers."""
    env = make(dataset, classifier, render_mode="rgb_array", label_noise=0.2)
    seen = run(env)
    kept = env.run.state_dict()
    seen += [env.render(), env.run.embed(np.arange(5)), *env.run.last_layer(), env.run.n_features]
    seen += [env.run.predict_with_dropout(np.arange(5), 2, seed=1)] if classifier.dropout else []
    seen += [env.run.evaluate_retrained().macro_f1, env.run.evaluate_fully_supervised().macro_f1]
    env.run.load_state_dict(kept)
    other = make(dataset, classifier, label_noise=0.2)
    other.reset(seed=1)
    other.run.load_state_dict(kept)
    for each in (env, other):
        seen += each.step(np.linspace(0, 1, len(each.action_space.low)))[:2]
    return seen


def everything_of_a_vector(dataset, classifier):
    task = replace(TASK, budget=0.3)
    envs = ActiveLearningVectorEnv(2, dataset, task, classifier, autoreset_mode="SameStep")
    observations, infos = envs.reset(seed=3)
    seen = [observations, infos["macro_f1"]]
    rng = np.random.default_rng(0)
    for _ in range(4):
        actions = rng.random(envs.action_space.shape)
        observations, rewards, _, _, infos = envs.step(actions)
        seen += [observations, rewards, infos["macro_f1"]]
    return seen


@pytest.fixture(scope="module")
def expected(dataset):
    """What there is where the caller has set nothing."""
    return {
        name: (everything(dataset, each), everything_of_a_vector(dataset, each))
        for name, each in CLASSIFIERS.items()
    }


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("caller", CALLERS)
def test_the_callers_state_neither_leaks_in_nor_changes(dataset, expected, name, caller):
    of_one, of_vector = expected[name]
    with CALLERS[caller]():
        before = state()
        found = everything(dataset, CLASSIFIERS[name])
        assert state() == before
        found_of_vector = everything_of_a_vector(dataset, CLASSIFIERS[name])
        assert state() == before
    assert_equal(found, of_one)
    assert_equal(found_of_vector, of_vector)


@pytest.mark.parametrize("caller", CALLERS)
def test_an_environment_made_under_one_state_goes_on_under_another(dataset, caller):
    network = CLASSIFIERS["network"]
    expected = run(make(dataset, network))
    with CALLERS[caller]():
        env = make(dataset, network)
        env.reset(seed=5)
    assert_equal(run(env), expected)


def test_it_comes_back_after_an_error():
    with torch.inference_mode(), default_dtype(torch.float64):
        before = state()
        with pytest.raises(KeyError), own_torch_state():
            assert state() != before
            raise KeyError
        assert state() == before
