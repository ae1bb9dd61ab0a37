"""Frozen features are computed once; what is wrong with a file of them is noticed."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from al_gym import ClassifierConfig
from al_gym.classifiers import features
from al_gym.classifiers.networks import NetworkClassifier
from tests.samples import make_dataset

CONFIG = ClassifierConfig(trainable="head", device="cpu")


@pytest.fixture
def computed(monkeypatch, tmp_path):
    """How often features were computed, with a cache of the test's own."""
    monkeypatch.setenv("AL_GYM_CACHE", str(tmp_path))
    times, compute = [], NetworkClassifier.features

    def counted(self, *given, **more):
        times.append(1)
        return compute(self, *given, **more)

    monkeypatch.setattr(NetworkClassifier, "features", counted)
    return times


def files(tmp_path):
    return sorted((tmp_path / "features").glob("*.npy"))


def test_they_are_computed_once_and_read_as_they_were(computed, tmp_path, dataset):
    first, _ = features.frozen_features(dataset, CONFIG)
    again, _ = features.frozen_features(dataset, CONFIG)
    assert len(computed) == 1 and len(files(tmp_path)) == 1
    np.testing.assert_array_equal(first, again)


def test_settings_that_do_not_decide_them_share_them(computed, dataset):
    for change in (
        {}, {"learning_rate": 0.5}, {"dropout": 0.3}, {"update_passes": 4}, {"optimizer": "adam"},
        {"class_weights": "balanced"}, {"schedule": "cosine"}, {"early_stopping": 3},
    ):  # fmt: skip
        features.frozen_features(dataset, replace(CONFIG, **change))
    assert len(computed) == 1


@pytest.mark.parametrize("change", [{"precision": "bf16"}, {"inference_batch_size": 7}])
def test_settings_that_decide_them_do_not(computed, dataset, change):
    features.frozen_features(dataset, CONFIG)
    features.frozen_features(dataset, replace(CONFIG, **change))
    assert len(computed) == 2


def test_other_images_have_others(computed, dataset):
    features.frozen_features(dataset, CONFIG)
    features.frozen_features(make_dataset(seed=1), CONFIG)
    assert len(computed) == 2


def damaged_bytes(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def torn(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [damaged_bytes, torn, empty])
def test_wrong_and_torn_files_are_noticed_and_computed_again(computed, tmp_path, dataset, damage):
    expected, _ = features.frozen_features(dataset, CONFIG)
    expected = expected.clone()
    (path,) = files(tmp_path)
    damage(path)
    with pytest.warns(UserWarning, match="is damaged .*it is made again"):
        found, _ = features.frozen_features(dataset, CONFIG)
    assert len(computed) == 2
    np.testing.assert_array_equal(found, expected)
    features.frozen_features(dataset, CONFIG)
    assert len(computed) == 2


def test_those_of_a_network_of_ones_own_are_not_kept(computed, tmp_path, dataset):
    own = nn.Sequential(nn.Flatten(), nn.Linear(288, 3))
    for _ in range(2):
        features.frozen_features(dataset, replace(CONFIG, network=own))
    assert len(computed) == 2 and not files(tmp_path)


def test_rows_for_validation_change_nothing(computed, dataset):
    first, _ = features.frozen_features(dataset, CONFIG)
    divided = replace(dataset, test=dataset.test[:20], validation=dataset.test[20:])
    again, _ = features.frozen_features(divided, CONFIG)
    assert len(computed) == 1 and (first == again).all()


KEYS = [
    ("resnet18", "IMAGENET1K_V1", (1, 12, 12), "other"),
    ("resnet18", "IMAGENET1K_V1", (3, 12, 12), "same"),
    ("resnet18", None, (1, 12, 12), "same"),
    ("efficientnet_lite0_planes", "IMAGENET1K", (1, 12, 12, 12), "same"),
    ("small2d", None, (1, 12, 12), "same"),
]


@pytest.mark.parametrize(("network", "weights", "shape", "kept"), KEYS)
def test_files_of_before_are_found_where_features_are_the_same(network, weights, shape, kept):
    """The key as it was written before grey images were repeated for pretrained weights."""
    images = np.random.default_rng(0).integers(0, 255, (110, *shape), dtype=np.uint8)
    data = replace(make_dataset(), images=images)
    config = replace(CONFIG, network=network, weights=weights)
    digest = hashlib.blake2b(digest_size=16)
    for array in (images, data.train):
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(array.data)
    settings = {
        "network": network, "weights": weights, "precision": "fp32", "channels_last": None,
        "deterministic": True, "inference_batch_size": None, "device": "cpu",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "versions": [1, *(features._version(package) for package in features.PACKAGES)],
    }  # fmt: skip
    digest.update(json.dumps(settings, sort_keys=True).encode())
    found = features._key(data, config, torch.device("cpu"))
    assert (found == f"{network}-{digest.hexdigest()}") == (kept == "same")
