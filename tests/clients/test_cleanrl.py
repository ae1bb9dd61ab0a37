"""The loops of CleanRL, written anew in examples/."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.clients.tasks import ID, N_STEPS, SETTINGS, parameters

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(autouse=True)
def _threads():
    """Leave PyTorch's number of threads as it was; the examples take one."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["ddpg", "td3", "sac"])
def test_examples(name):
    """DDPG, TD3 and SAC of examples/ learn with finite losses, and alike with one seed."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"cleanrl_{name}.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    assert example.Args().env_id == ID
    settings = {name: value for name, value in SETTINGS.items() if name != "budget"}
    args = example.Args(budget=0.5, total_steps=30, learning_starts=10, batch_size=8)
    untrained, _ = example.main(replace(args, total_steps=10), **settings)
    actor, episodes = example.main(args, **settings)
    assert (parameters(actor) != parameters(untrained)).any()
    assert [episode["step"] for episode in episodes] == list(range(N_STEPS, 31, N_STEPS))
    assert all(0 <= episode["macro_f1"] <= 1 for episode in episodes)
    assert all(0 <= episode["reward"] < N_STEPS for episode in episodes)
    assert np.isfinite([episode["critic_loss"] for episode in episodes[3:]]).all()
    again, repeated = example.main(args, **settings)
    np.testing.assert_equal(repeated, episodes)
    np.testing.assert_array_equal(parameters(again), parameters(actor))
