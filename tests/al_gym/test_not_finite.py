"""Numbers that are NaN or infinite stop a run, which says where, and goes back."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from al_gym import ActiveLearningVectorEnv, ImageDataset
from al_gym.errors import NotFiniteError
from tests.al_gym.episodes import TASK, assert_unchanged, make, state_of
from tests.samples import FAST, make_dataset

DIVERGING = replace(FAST, learning_rate=1e38, pretrain_passes=30, update_passes=30)
HEADS = {"trainable": "head"}


class Afraid(nn.Module):
    """A network of one's own, with infinite features of the images that are black."""

    def __init__(self, channels: int, n_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(channels, n_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = images.flatten(2).mean(2)
        black = (images.flatten(2) == images.flatten(2)[:, :, :1]).flatten(1).all(1)
        return self.head(features.where(~black[:, None], torch.inf))


def with_black(rows):
    data = make_dataset()
    images = data.images.copy()
    images[rows] = 0
    names = np.array([f"image{i}.png" for i in range(len(images))])
    return replace(data, images=images, names=names)


@pytest.mark.parametrize("change", [{}, HEADS], ids=["network", "head"])
def test_pretraining_that_diverges_is_said_and_leaves_no_episode(dataset, change):
    env = make(dataset, replace(DIVERGING, **change))
    message = (
        r"after pretraining: the classifier's predictions of all \d+ images are NaN or infinite: "
        r"it has diverged. Lower learning_rate \(1e\+38\)"
    )
    with pytest.raises(NotFiniteError, match=message):
        env.reset(seed=0)
    assert not env.run.has_begun


@pytest.mark.parametrize("change", [{}, HEADS], ids=["network", "head"])
def test_an_update_that_diverges_names_its_step_and_keeps_the_weights(dataset, change):
    env = make(dataset, replace(DIVERGING, pretrain_passes=0, **change))
    env.reset(seed=0)
    before = state_of(env)
    action = np.ones(env.action_space.shape)
    for _ in range(2):  # the environment is as it was: the same step fails in the same way
        with pytest.raises(NotFiniteError, match="in step 1: the classifier's predictions") as said:
            env.step(action)
        assert_unchanged(env, before)
    weights = env.run.classifiers.weights(said.value.classifier)
    assert not all(torch.isfinite(each).all() for each in weights.values())
    copied = pickle.loads(pickle.dumps(said.value))  # as processes send it
    assert str(copied) == str(said.value) and copied.classifier.keys() == {*said.value.classifier}


def test_of_several_environments_the_one_is_named(dataset):
    envs = ActiveLearningVectorEnv(2, dataset, TASK, replace(DIVERGING, pretrain_passes=0))
    envs.reset(seed=0)
    before = [env.run.episode for env in envs.envs]
    with pytest.raises(NotFiniteError, match="in step 1 of environment 0: the classifier's"):
        envs.step(np.ones(envs.action_space.shape))
    assert [env.run.episode for env in envs.envs] == before


def test_the_image_that_a_network_makes_infinite_is_named():
    """Row 70 is in the pool of this seed, and the test images are fine."""
    env = make(with_black([70]), replace(FAST, network=Afraid))
    message = (
        r"after pretraining: .* predictions of 1 of 72 images are NaN or infinite, the first "
        r"image70.png \(data-set row 70\). Look at that image"
    )
    with pytest.raises(NotFiniteError, match=message):
        env.reset(seed=0)


def test_the_test_image_too():
    env = make(with_black([84, 85]), replace(FAST, network=Afraid))
    with pytest.raises(NotFiniteError, match=r"2 of 30 images are .* first image84.png"):
        env.reset(seed=0)


def test_frozen_features_are_looked_at_once():
    with pytest.raises(NotFiniteError, match=r"features of 1 of 110 images .* first those of im"):
        make(with_black([84]), replace(FAST, network=Afraid, trainable="head"))


def test_a_network_that_returns_infinity_is_refused(dataset):
    network = nn.Sequential(nn.Flatten(), nn.Linear(288, 3))
    with torch.no_grad():
        network[1].weight[0, 0] = torch.inf
    with pytest.raises(ValueError, match="returns NaN or infinity for images of random numbers"):
        make(dataset, replace(FAST, network=network)).reset(seed=0)


def test_images_with_nan_are_no_data_set():
    data = make_dataset()
    images = np.full(data.images.shape, np.nan, np.float32)
    with pytest.raises(ValueError, match="float32. Scale other numbers .* in place of NaN"):
        ImageDataset(images, data.labels, data.class_names, data.groups, data.train, data.test, "x")


@pytest.mark.parametrize("pays", [np.nan, -np.inf])
def test_a_reward_that_is_no_number_is_refused(dataset, pays):
    paid = iter([0.5, pays, 0.25])
    env = make(dataset, reward=lambda outcome: next(paid))
    env.reset(seed=0)
    action = np.ones(env.action_space.shape)
    assert env.step(action)[1] == 0.5
    before = state_of(env)
    with pytest.raises(NotFiniteError, match=f"in step 2: reward=.* paid {pays}: .* Correct"):
        env.step(action)
    assert_unchanged(env, before)
    assert env.step(action)[1] == 0.25
