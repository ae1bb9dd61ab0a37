"""The picture of what a policy has learned: the grid by hand, and the whole once."""

import numpy as np
import pytest
import torch
from PIL import Image

from agents.sets.pool_features import CONTEXT, FEATURES, PoolState, context_size
from agents.transfer import TransferPolicy
from benchmarks import policy_figure
from benchmarks.matrix.presets import PRESETS, Preset


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    monkeypatch.setattr(policy_figure, "N_POINTS", 21)


def test_a_point_of_the_grid_is_a_sample_with_that_softmax():
    context = torch.arange(float(context_size(len(FEATURES))))
    pool = PoolState(torch.zeros(len(FEATURES), 4), context)
    axis, features = policy_figure.grid(4, pool)
    assert len(axis) == 21 and axis[11] == pytest.approx(0.55)
    at = features.view(-1, 21, 21)[:, 5, 11]  # p2 = 0.25, p1 = 0.55; the others have 0.1 each
    p = np.array([0.55, 0.25, 0.1, 0.1])
    expected = [0.55, 0.25, 0.1, 1 - 0.3, -(p * np.log(p)).sum() / np.log(4), 0.55 - (p**2).sum()]
    np.testing.assert_allclose(at[:6], expected, atol=1e-6)
    means = context[len(CONTEXT) :]
    assert at[6:].tolist() == means[6:8].tolist()
    assert features.view(-1, 21, 21)[:, 12, 11].isnan().all()  # p2 above p1
    assert features.view(-1, 21, 21)[:, 1, 11].isnan().all()  # the others above p2
    assert features.view(-1, 21, 21)[:, 10, 15].isnan().all()  # more than 1 together


@pytest.mark.parametrize("embeddings", [False, True])
def test_the_program_draws(folder_root, tmp_path, monkeypatch, embeddings):
    settings = {"query_size": 10, "budget": 0.3}
    monkeypatch.setitem(PRESETS, "small", Preset("Folder", settings))
    policy = TransferPolicy(embeddings)
    policy.weights[FEATURES.index("entropy"), 0] = 1.0
    policy.save(tmp_path / "policy.safetensors", {})
    config = policy_figure.FigureConfig(
        tmp_path / "out" / "figure.png", str(tmp_path / "policy.safetensors"), "small", folder_root
    )
    assert policy_figure.main(config) == 0
    with Image.open(config.out) as picture:
        assert picture.size == (1500, 960) and len(picture.convert("L").getcolors()) > 20
