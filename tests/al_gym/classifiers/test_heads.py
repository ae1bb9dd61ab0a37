"""Linear heads: against the full network with a frozen backbone, and many against one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from al_gym import ClassifierConfig
from al_gym.classifiers import Lesson, LinearHeads, make_classifiers
from al_gym.classifiers.images import split_evenly
from al_gym.classifiers.networks import NetworkClassifier
from tests.samples import One

CONFIG = ClassifierConfig(learning_rate=0.05, momentum=0.9, device="cpu", trainable="head")


def make(dataset, config=CONFIG, n=1):
    classifiers = make_classifiers(dataset, config, n)
    return [One(classifiers, k, seed=k) for k in range(n)]


@pytest.mark.parametrize(
    "change", [{}, {"momentum": 0.0}, {"weight_decay": 0.1}, {"momentum": 0.5, "batch_size": 7}]
)
def test_a_head_learns_as_torch_does_on_a_frozen_backbone(dataset, change):
    config = replace(CONFIG, **change)
    (classifier,) = make(dataset, config)
    rows, labels = dataset.train[:40], torch.as_tensor(dataset.labels[dataset.train[:40]])
    features = torch.from_numpy(classifier.embed(np.arange(len(dataset.images))))
    layer = nn.Linear(features.shape[1], 3)
    weights = classifier.weights
    layer.load_state_dict({"weight": weights["weight"][0], "bias": weights["bias"][0, 0]})
    optimizer = torch.optim.SGD(
        layer.parameters(), config.learning_rate, config.momentum, weight_decay=config.weight_decay
    )
    rng = np.random.default_rng(1)
    rng.integers(2**63)
    for _ in range(3):
        for batch in split_evenly(rng.permutation(40), config.batch_size):
            loss = F.cross_entropy(layer(features[rows[batch]]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    classifier.fit(rows, labels.numpy(), 3, np.random.default_rng(1))
    with torch.no_grad():
        expected = F.softmax(layer(features[dataset.test]), 1).numpy()
    np.testing.assert_allclose(classifier.predict(dataset.test), expected, atol=1e-5)


def test_features_are_the_networks_and_computed_once(dataset, monkeypatch, tmp_path):
    monkeypatch.setenv("AL_GYM_CACHE", str(tmp_path))
    passes = []
    features = NetworkClassifier.features
    monkeypatch.setattr(
        NetworkClassifier,
        "features",
        lambda self, *given, **more: passes.append(1) or features(self, *given, **more),
    )
    first, second = make(dataset, n=2)
    first.initialize(np.random.default_rng(5))
    assert len(passes) == 1
    make(dataset)
    assert len(passes) == 1  # they are in the cache
    network = One(make_classifiers(dataset, replace(CONFIG, trainable="all")))  # same generator
    np.testing.assert_array_equal(second.embed(dataset.test), network.embed(dataset.test))


def test_a_new_head_depends_on_its_generator_alone(dataset):
    one, other = make(dataset, n=2)
    one.fit(dataset.train[:30], dataset.labels[dataset.train[:30]], 2, np.random.default_rng(0))
    for head in (one, other):
        head.initialize(np.random.default_rng(7))
    np.testing.assert_array_equal(one.predict(dataset.test), other.predict(dataset.test))
    (fresh,) = make(dataset)
    fresh.initialize(np.random.default_rng(8))
    assert not np.array_equal(fresh.predict(dataset.test), one.predict(dataset.test))


def test_a_module_of_ones_own_brings_its_head(dataset):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(288, 8), nn.ReLU(), nn.Linear(8, 3))
    (classifier,) = make(dataset, replace(CONFIG, network=module))
    weights = classifier.weights
    torch.testing.assert_close(weights["weight"][0], module[3].weight.detach())
    torch.testing.assert_close(weights["bias"][0, 0], module[3].bias.detach())


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_many_heads_learn_as_each_alone(dataset, dropout):
    config = replace(CONFIG, dropout=dropout)
    together, alone = make(dataset, config, n=3), make(dataset, config, n=3)
    rows = [np.random.default_rng(k).choice(dataset.train, 37, replace=False) for k in range(3)]
    labels = [dataset.labels[each] for each in rows]
    heads = together[0].classifiers
    heads.fit([Lesson(k, rows[k], labels[k], np.random.default_rng(k)) for k in range(3)], 4)
    softmax = heads.predict(range(3), [dataset.train[k:] for k in range(3)])
    assert [each.samples_forwarded for each in heads.counters] == [len(dataset.train)] * 3
    for k in range(3):
        alone[k].fit(rows[k], labels[k], 4, np.random.default_rng(k))
        np.testing.assert_allclose(
            softmax[k].numpy(), alone[k].predict(dataset.train[k:]), atol=1e-6
        )


def test_some_heads_learn_and_the_others_stay(dataset):
    together, alone = make(dataset, n=4), make(dataset, n=4)
    rows = [dataset.train[k : k + 25] for k in range(2)]
    labels = [dataset.labels[each] for each in rows]
    heads, chosen = together[0].classifiers, [3, 1]
    heads.fit([Lesson(chosen[k], rows[k], labels[k], np.random.default_rng(k)) for k in (0, 1)], 3)
    softmax = heads.predict(chosen, [dataset.test] * 2)
    for k, index in enumerate(chosen):
        alone[index].fit(rows[k], labels[k], 3, np.random.default_rng(k))
        expected = alone[index].predict(dataset.test)
        np.testing.assert_allclose(softmax[k].numpy(), expected, atol=1e-6)
    for one, other in zip(together, alone, strict=True):
        for name, value in one.weights.items():
            torch.testing.assert_close(value, other.weights[name], atol=1e-5, rtol=1e-5)


@given(st.data())
def test_predictions_are_those_of_the_rows_asked_for(data):
    """Whole stretches or rows picked out: the same answer, in the order asked for."""
    features = torch.from_numpy(np.random.default_rng(0).random((30, 5), np.float32))
    training = np.sort(np.random.default_rng(1).permutation(30)[:20])
    heads = LinearHeads(features, training, 2, 3, CONFIG)
    heads.weight.copy_(torch.from_numpy(np.random.default_rng(2).random((2, 3, 5), np.float32)))
    heads.bias.copy_(torch.arange(6.0).view(2, 1, 3))
    rows = [
        np.array(data.draw(st.lists(st.integers(0, 29), min_size=1, max_size=30))) for _ in range(2)
    ]
    softmax = heads.predict(range(2), rows)
    n_forwarded = [each.samples_forwarded for each in heads.counters]
    assert n_forwarded == [len(each) for each in rows] or max(n_forwarded) <= 30
    for k in range(2):
        expected = F.softmax(features[rows[k]] @ heads.weight[k].T + heads.bias[k], dim=1)
        torch.testing.assert_close(softmax[k], expected)


def test_the_state_goes_to_another_process_and_back(dataset):
    one, two = make(dataset, n=2)
    rows = dataset.train[:30]
    one.fit(rows, dataset.labels[rows], 2, np.random.default_rng(0))
    two.load_state_dict(one.state_dict())
    for head in (one, two):
        head.fit(rows, dataset.labels[rows], 2, np.random.default_rng(1))
    np.testing.assert_array_equal(one.predict(dataset.test), two.predict(dataset.test))
    with pytest.raises(RuntimeError, match="another network: there is no .*weight"):
        one.load_state_dict({"weight": torch.zeros(1, 2, 2)})


def test_classifiers_over_given_features_are_those_of_the_images(dataset):
    """The same features, weights and order of samples: the same classifier."""
    (classifier,) = make(dataset)
    features = torch.from_numpy(classifier.embed(np.arange(len(dataset.images))))
    heads = LinearHeads(features, np.arange(len(features)), 2, 3, CONFIG)
    first, second = One(heads, 0), One(heads, 1)
    rows, labels = dataset.train[:30], dataset.labels[dataset.train[:30]]
    for each in (classifier, second):
        each.initialize(np.random.default_rng(5))
        each.fit(rows, labels, 3, np.random.default_rng(6))
    first.initialize(np.random.default_rng(5))
    expected = classifier.predict(dataset.test)
    np.testing.assert_allclose(second.predict(dataset.test), expected, atol=1e-6)
    assert np.abs(first.predict(dataset.test) - expected).max() > 1e-3
