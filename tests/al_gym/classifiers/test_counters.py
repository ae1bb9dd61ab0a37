"""What a step costs, pinned to the sample; and the results of the usual loop."""

import copy
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import SimpleITK
import torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from al_gym import ActiveLearningEnv, EnvConfig
from al_gym.classifiers.counters import Counters
from tests.samples import FAST, One

TASK = EnvConfig(initial_fraction=0.1, query_size=4, budget=0.5)
N_CLASSES, FLOAT, SCORES = 3, 4, 12


def make(dataset, classifier=FAST, **task):
    return ActiveLearningEnv(dataset, replace(TASK, **task), classifier)


def sizes(env, dataset):
    n_pool = env.action_space.shape[0]
    return n_pool, len(dataset.train) - n_pool, len(dataset.test)


def step(env):
    env.step(np.linspace(0, 1, env.action_space.shape[0]))
    return env.run.counters


def test_a_step_trains_on_what_is_labelled_and_predicts_what_is_not(dataset):
    env = make(dataset)
    n_pool, n_initial, n_test = sizes(env, dataset)
    env.reset(seed=0)
    assert env.run.counters == Counters(
        samples_forwarded=n_pool + n_test,
        samples_trained=2 * n_initial,  # pretrain_passes
        bytes_to_host=n_pool * N_CLASSES * FLOAT + SCORES,
    )
    for queries in range(1, 4):
        left = n_pool - 4 * queries
        assert step(env) == Counters(
            samples_forwarded=left + n_test,
            samples_trained=n_initial + 4 * queries,
            bytes_to_host=left * N_CLASSES * FLOAT + SCORES,
        )


def test_predictions_that_are_kept_are_counted(dataset):
    env = make(dataset)
    n_pool, _, n_test = sizes(env, dataset)
    env.run.keep_predictions()
    env.reset(seed=0)
    n_bytes = n_pool * N_CLASSES * FLOAT + SCORES + n_test
    assert env.run.counters.bytes_to_host == n_bytes
    assert step(env).bytes_to_host == n_bytes - 4 * N_CLASSES * FLOAT
    assert env.run.counters.samples_forwarded == n_pool - 4 + n_test  # no second look


def test_the_test_set_is_scored_when_it_is_due(dataset):
    env = make(dataset, eval_every=3)
    n_pool, _, n_test = sizes(env, dataset)
    env.reset(seed=0)
    forwarded = [step(env).samples_forwarded for _ in range(3)]
    assert forwarded == [n_pool - 4, n_pool - 8, n_pool - 12 + n_test]


def test_a_second_look_at_the_queried_costs_what_it_costs(dataset):
    env = make(dataset, reward_timing="after_update")
    n_pool, _, n_test = sizes(env, dataset)
    env.reset(seed=0)
    assert step(env).samples_forwarded == n_pool - 4 + n_test + 4


def test_a_reset_to_the_same_start_computes_nothing(dataset):
    env = make(dataset, validation_fraction=0.1)
    first, info = env.reset(seed=0)
    step(env)
    again, same = env.reset()
    assert env.run.counters == Counters()
    np.testing.assert_array_equal(first, again)
    assert info["macro_f1"] == same["macro_f1"]


def test_features_are_kept_and_whole_stretches_predicted(dataset):
    env = make(dataset, replace(FAST, trainable="head"))
    n_pool, n_initial, n_test = sizes(env, dataset)
    env.reset(seed=0)
    counters = step(env)
    rows = env.run.episode.pool.indices[
        np.linspace(0, 1, n_pool).argsort()[:-4]
    ]  # still unlabelled
    stretch = rows.max() - rows.min() + 1
    assert counters.samples_forwarded == stretch + n_test
    assert counters.samples_trained == n_initial + 4
    assert counters.bytes_to_host == (n_pool - 4) * N_CLASSES * FLOAT + SCORES


def test_files_are_decoded_once_and_never_in_a_step(chestct_root, tmp_path, monkeypatch):
    monkeypatch.setenv("AL_GYM_CACHE", str(tmp_path))
    settings = {
        "profile": "embedded", "root": str(chestct_root), "n_train": 40, "n_test": 20,
        "patch_size": 8, "device": "cpu", "pretrain_passes": 1,
    }  # fmt: skip
    first = gym.make("ActiveLearning-chestCT-v0", **settings)
    assert first.get_wrapper_attr("run").counters == Counters(files_decoded=60)
    second = gym.make("ActiveLearning-chestCT-v0", **settings)
    assert second.get_wrapper_attr("run").counters.files_decoded == 0
    monkeypatch.setattr(SimpleITK, "ImageFileReader", lambda: pytest.fail("a volume was read"))
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("an image was read"))
    for env in (first, second):
        env.reset(seed=0)
        env.step(np.ones(env.action_space.shape))
        assert env.get_wrapper_attr("run").counters.files_decoded == 0


# --- the loop that everybody writes ---------------------------------------------------------------


class Images(Dataset):
    def __init__(self, dataset, rows, labels, mean, std):
        self.dataset, self.rows, self.labels, self.mean, self.std = dataset, rows, labels, mean, std

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        image = torch.from_numpy(self.dataset.images[self.rows[i]]).float()
        return (image - self.mean) / self.std, self.labels[i]


def softmax_of(network, images):
    network.eval()
    with torch.no_grad():
        return torch.cat([F.softmax(network(x), 1) for x, _ in DataLoader(images, batch_size=16)])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_results_are_those_of_a_plain_loop_over_data_loaders(dataset, momentum):
    env = make(dataset, replace(FAST, momentum=momentum))
    observation, _ = env.reset(seed=0)
    training = torch.from_numpy(dataset.images[dataset.train]).float().transpose(0, 1).flatten(1)
    mean, std = (s.view(-1, 1, 1) for s in (training.mean(1), training.std(1, correction=0)))
    classifier, rng = One(env.run.classifiers, seed=None), np.random.default_rng()
    network = copy.deepcopy(classifier.network)
    optimizer = torch.optim.SGD(network.parameters(), lr=FAST.learning_rate, momentum=momentum)
    optimizer.load_state_dict(classifier.state_dict()["optimiser"])
    rng.bit_generator.state = env.np_random.bit_generator.state
    for _ in range(6):
        observation, _, _, _, info = env.step(1 - observation.max(1))
        rows, labels = env.run.episode.pool.labelled, env.run.episode.pool.labels
        rng.integers(2**63)
        order = rng.permutation(len(rows))
        batches = np.array_split(order, -(-len(rows) // 16))
        loader = DataLoader(Images(dataset, rows, labels, mean, std), batch_sampler=batches)
        network.train()
        for images, truth in loader:
            optimizer.zero_grad()
            F.cross_entropy(network(images), truth).backward()
            optimizer.step()
        pool = Images(dataset, env.run.episode.pool.indices, np.zeros(len(observation)), mean, std)
        expected = softmax_of(network, pool).numpy()  # the whole pool, as such loops do
        available = info["available"]
        np.testing.assert_allclose(observation[available], expected[available], atol=1e-5)
        test = Images(dataset, dataset.test, np.zeros(len(dataset.test)), mean, std)
        micro = (softmax_of(network, test).argmax(1).numpy() == dataset.labels[dataset.test]).mean()
        assert info["micro_f1"] == pytest.approx(micro, abs=1e-6)
