"""Parts of the user's own by import path, so that an environment can be made from JSON."""

import json

import gymnasium as gym
import numpy as np
import pytest
from torch import nn

import al_gym  # noqa: F401  (registers the ids)
from al_gym.import_paths import imported
from tests.samples import make_dataset

HERE = "tests.al_gym.test_import_paths"


def read(root, *, n_images=80):
    """A reader of one's own."""
    return make_dataset(n_train=n_images)


def nothing_read(root):
    return None


def network(channels, n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 144, n_classes))


def count(outcome):
    """A reward of one's own."""
    return float(len(outcome.sample_rewards))


class AlwaysOne:
    """An annotator of one's own."""

    def __init__(self, images):
        self.n_classes = images.n_classes

    def annotate(self, indices):
        return np.ones(len(indices), int)


SPECIFICATION = json.dumps({
    "reader": f"{HERE}:read", "n_images": 60, "network": f"{HERE}:network",
    "reward": f"{HERE}:count", "annotator": f"{HERE}:AlwaysOne",
    "query_size": 4, "pretrain_passes": 1, "device": "cpu",
})  # fmt: skip


def test_an_environment_is_made_from_json():
    env = gym.make("ActiveLearning-Folder-v0", **json.loads(SPECIFICATION))
    env.reset(seed=0)
    run = env.get_wrapper_attr("run")
    assert run.n_training == 60
    assert isinstance(run.classifiers.members[0].network.head, nn.Linear)
    _, reward, *_ = env.step(np.ones(env.action_space.shape, np.float32))
    assert reward == 4.0 and run.episode.query.labels.tolist() == [1] * 4


def test_a_reader_of_ones_own_has_its_own_keywords():
    with pytest.raises(TypeError, match="unexpected keyword argument 'group_pattern'"):
        gym.make("ActiveLearning-Folder-v0", reader=f"{HERE}:read", group_pattern="x")
    with pytest.raises(TypeError, match="returned no ImageDataset"):
        gym.make("ActiveLearning-Folder-v0", reader=f"{HERE}:nothing_read")


@pytest.mark.parametrize("path", ["antigravity", "nowhere:x", f"{HERE}:nothing", ":x", "json:"])
def test_what_is_not_there_is_named(path):
    with pytest.raises(ValueError, match="cannot be imported"):
        imported(path)
