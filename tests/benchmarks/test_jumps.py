"""How the jumps of macro F1 are measured."""

import numpy as np
import pytest
import torch

from agents import strategies
from al_gym import ActiveLearningEnv, ClassifierConfig, EnvConfig
from benchmarks import jumps
from benchmarks.jumps import JumpsConfig
from tests.samples import FAST, make_dataset

TASK = EnvConfig(initial_fraction=0.1, query_size=4)


def test_a_jump_is_the_deviation_of_the_differences_by_hand():
    labels = np.array([0, 1, 0, 1])
    right, wrong = np.eye(2)[labels], np.eye(2)[1 - labels]
    half = np.eye(2)[[0, 0, 1, 1]]  # macro F1 0.5
    curve = np.stack([right, wrong, half]).astype(np.float32)
    np.testing.assert_allclose(jumps.scores(curve, labels), [1, 0, 0.5])
    assert jumps.jump([curve], labels, 1) == pytest.approx(np.std([-1, 0.5]))
    assert jumps.jump([curve, curve[:2]], labels, 1) == pytest.approx(np.std([-1, 0.5]) / 2)


def test_statistics_are_those_of_the_inputs_layer_after_layer():
    env = ActiveLearningEnv(make_dataset(), TASK, FAST)
    env.reset(seed=0)
    (classifier,) = env.run.classifiers.members
    labelled = env.run.episode.pool.labelled
    jumps.renew_statistics(classifier, labelled)
    norms = [m for m in classifier.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) >= 2
    outputs = []
    handles = [
        m.register_forward_hook(lambda m, i, o: outputs.append((m, o.clone()))) for m in norms
    ]
    classifier.predict(labelled)
    for handle in handles:
        handle.remove()
    assert {id(layer) for layer, _ in outputs} == {id(layer) for layer in norms}
    for layer, output in outputs:  # so what comes out has the mean and deviation of the layer's own
        flat = output.transpose(0, 1).flatten(1)
        torch.testing.assert_close(flat.mean(1), layer.bias, atol=1e-4, rtol=0)
        torch.testing.assert_close(flat.std(1), layer.weight.abs(), atol=1e-2, rtol=1e-2)


def test_looking_changes_nothing():
    env = ActiveLearningEnv(make_dataset(), TASK, FAST)
    seen = jumps.play(env, seed=0, steps=3, in_all_ways=True)
    assert list(seen) == [jumps.AS_IT_IS, jumps.STATISTICS, jumps.MEAN]
    n_test = len(env.run.dataset.test)
    assert all(values.shape == (4, n_test, 3) for values in seen.values())
    again = ActiveLearningEnv(make_dataset(), TASK, FAST)
    again.reset(seed=0)
    agent = strategies.make("random", query_size=4, seed=0)
    observation, _ = again.reset(seed=0)
    for _ in range(3):
        observation, *_ = again.step(agent.predict(observation)[0])
    np.testing.assert_array_equal(jumps.predict(again.run), seen[jumps.AS_IT_IS][-1])
    assert not np.array_equal(seen[jumps.STATISTICS], seen[jumps.AS_IT_IS])


def test_heads_are_looked_at_as_they_are():
    head = ClassifierConfig(trainable="head", pretrain_passes=2, device="cpu")
    env = ActiveLearningEnv(make_dataset(), TASK, head)
    assert list(jumps.play(env, seed=0, steps=1, in_all_ways=True)) == [jumps.AS_IT_IS]


def test_the_table_has_a_row_for_every_look(tmp_path, monkeypatch, capsys):
    made = ActiveLearningEnv(make_dataset(), TASK, FAST)
    monkeypatch.setattr(jumps, "environment", lambda preset, changes: made)
    config = JumpsConfig(tmp_path / "a" / "jumps.md", seeds=1, steps=2, only=("embedded",))
    assert jumps.main(config) == 0
    lines = config.out.read_text().splitlines()
    assert len(lines) == 5 and "embedded" in lines[2] and lines[4].count("|") == 6
    with pytest.raises(ValueError, match="unknown row 'x'"):
        jumps.main(JumpsConfig(tmp_path, only=("x",)))


def test_every_row_is_a_change_of_a_preset():
    for preset, changes in jumps.VARIANTS.values():
        settings = jumps.PRESETS[preset].settings
        assert all(settings.get(key) != value for key, value in changes.items())
