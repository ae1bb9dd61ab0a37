"""The picture of a policy for few labels: its numbers by hand, and the whole once."""

import numpy as np
import pytest
from PIL import Image

from agents import TransferPolicy
from agents.sets.coverage import FEATURES, REGIME
from agents.transfer import CoveragePolicy
from benchmarks import coverage_figure
from benchmarks.coverage_figure import FigureConfig
from benchmarks.matrix.presets import PRESETS, Preset


@pytest.fixture
def small(monkeypatch):
    settings = {"query_size": 5, "budget": 0.3}
    monkeypatch.setitem(PRESETS, "small", Preset("Folder", settings))


def test_influences_are_weights_in_the_regime_times_deviations(small, folder_root, tmp_path):
    policy = CoveragePolicy.of({"typicality": 2.0}, embeddings=True)
    policy.weights[FEATURES.index("margin"), REGIME.index("labels per class")] = 3.0
    config = FigureConfig(tmp_path / "a.png", "made", "small", folder_root)
    moments, run = coverage_figure.episode(policy, config)
    for moment in moments:
        softmax = moment.observation["softmax"]
        left = softmax[softmax.any(1)]
        first, second = -np.sort(-left, axis=1)[:, :2].T
        margin = 1 - (first - second)
        regime = np.log10(1 + moment.n_labels / softmax.shape[1]) - 1
        expected = 3.0 * regime * margin.std()
        found = moment.influence[FEATURES.index("margin")]
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        assert moment.influence[FEATURES.index("typicality")] > 0
        assert (moment.influence != 0).sum() == 2
    assert (
        moments[0].n_labels
        < moments[-1].n_labels
        < run.task.n_budget
        == len(run.episode.pool.labelled)
    )


def test_the_program_draws(small, folder_root, tmp_path):
    path = CoveragePolicy.of({"margin": 1, "coverage, far": 0.5}, True).save(tmp_path / "p", {})
    out = tmp_path / "pictures" / "coverage.png"
    config = FigureConfig(out, str(path), "small", folder_root)
    assert coverage_figure.main(config) == 0
    with Image.open(out) as picture:
        assert picture.size == (1500, 1080)
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize("policy", [TransferPolicy(True), CoveragePolicy(False)])
def test_other_policies_are_refused(small, folder_root, tmp_path, policy):
    path = policy.save(tmp_path / "p", {})
    with pytest.raises(ValueError, match="is no CoveragePolicy with embeddings"):
        coverage_figure.main(FigureConfig(tmp_path / "a.png", str(path), "small", folder_root))
