"""The smallest and oddest tasks, with everything that acts, and what they must come to."""

import copy
import warnings

import numpy as np
import pytest
import torch

from agents import bait
from al_gym import (
    ActiveLearningEnv,
    ActiveLearningVectorEnv,
    ClassifierConfig,
    EnvConfig,
    ImageDataset,
)
from al_gym.metrics import evaluate
from al_gym.wrappers import ContextObservation
from benchmarks.matrix import methods
from tests.al_gym.episodes import assert_unchanged, state_of

HEAD = ClassifierConfig(device="cpu", pretrain_passes=1, trainable="head", learning_rate=0.05)
QUICK = ("random", "en", "drla-set", "drla-embed-v1", "badge")
"""One method of each kind."""
OTHERS = (
    "lc", "ms", "fusion", "eq3", "eq3-oracle", "all", "drla", "drla-sound", "drla-transfer-v1",
    "hyper", "coreset", "typiclust", "probcover", "uherding", "bait", "sb3-td3", "sb3-ppo",
)  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


def images_of(train, test, n_classes, constant=False):
    """Images of 6 pixels with these labels; the train side first."""
    labels = np.array([*train, *test], np.int64)
    n = len(labels)
    values = np.random.default_rng(0).integers(0, 150, (n, 1, 6, 6)) + 20 * (labels % 5).reshape(
        -1, 1, 1, 1
    )
    values = np.full_like(values, 7) if constant else values
    return ImageDataset(
        images=values.astype(np.uint8), labels=labels, groups=np.arange(n),
        class_names=tuple(f"class {j}" for j in range(n_classes)),
        train=np.arange(len(train)), test=np.arange(len(train), n), source="edges",
    )  # fmt: skip


EDGES = {
    "a pool of one class": (images_of([0] * 6 + [1], [0, 1], 2), {"initial_size": 2}, 5),
    "one unlabelled image": (images_of([0, 0, 1], [0, 1], 2), {"query_size": 1}, 1),
    "one image of each class": (
        images_of([0, 1, 2, 3], [0, 1, 2, 3], 4), {"initial_size": 1}, 3,
    ),
    "no label at the start": (images_of([0, 1, 2], [0, 1, 2], 3), {"initial_size": 0}, 3),
    "classes missing from the test set": (images_of([0, 1, 2] * 3, [1] * 4, 3), {}, 6),
    "images that are all the same": (images_of([0, 1] * 4, [0, 1], 2, constant=True), {}, 6),
}  # fmt: skip
"""Name -> images, task, and the images in the pool."""


class Env(ActiveLearningEnv):
    """Keeps the pools of episodes that are over."""

    def __init__(self, *args):
        super().__init__(*args)
        self.pools = []

    def step(self, action):
        outcome = super().step(action)
        if self.run.is_over:
            self.pools.append(copy.deepcopy(self.run.episode.pool))
        return outcome


def make(name, query_size=2):
    data, task, _ = EDGES[name]
    return Env(data, config(task, query_size), HEAD)


def config(task, query_size=2):
    return EnvConfig(**{"initial_fraction": 0.1, "query_size": query_size, "budget": 1.0, **task})


@pytest.mark.parametrize(
    "names", [QUICK, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=["quick", "others"]
)
@pytest.mark.parametrize("name", EDGES)
def test_every_method_plays_to_the_end(name, names):
    """With nothing said of divisions by zero, and every image asked about once."""
    for method in map(methods.find, names):
        env = make(name)
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            warnings.filterwarnings("ignore", "Number of distinct clusters")  # scikit-learn's
            player = method.make(env, 0, method.settings(env, 0, {}))
            player.play(lambda: None)
        if method.name == "all":
            continue
        assert env.pools, method.name
        pool = env.pools[0]  # Stable-Baselines3 resets by itself
        assert len(pool.indices) == EDGES[name][2] and not pool.available.any()
        assert sorted(pool.labelled) == env.run.dataset.train.tolist(), method.name


@pytest.mark.parametrize("name", EDGES)
def test_side_by_side_and_in_context_too(name):
    data, task, n_pool = EDGES[name]
    single = ContextObservation(make(name), embeddings=True, labelled=True)
    envs = ActiveLearningVectorEnv(2, data, config(task), HEAD)
    observations, _ = envs.reset(seed=0)
    context, _ = single.reset(seed=0)
    assert single.observation_space.contains(context)
    assert observations.shape == (2, n_pool, data.n_classes)
    for step in range(1, envs.max_steps + 1):
        actions = np.zeros(envs.action_space.shape)
        observations, rewards, over, _, infos = envs.step(actions)
        context, reward, terminated, _, info = single.step(actions[0])
        assert single.observation_space.contains(context)
        np.testing.assert_allclose(context["softmax"], observations[0], atol=1e-6)
        np.testing.assert_array_equal(info["selected"], infos["selected"][0])
        assert rewards[0] == pytest.approx(reward, abs=1e-6)
        assert over.tolist() == [terminated] * 2 == [step == envs.max_steps] * 2
    assert context["class_counts"].sum() == len(data.train)


def test_equal_scores_are_taken_in_an_order_that_the_seed_draws():
    """Every score being equal, the whole pool is asked about in ``tie_order``."""
    orders = []
    for seed in (0, 0, 1):
        env = make("classes missing from the test set")
        env.reset(seed=seed)
        expected = env.run.episode.pool.tie_order
        asked = [env.step(np.full(6, 0.5))[4]["selected"] for _ in range(3)]
        np.testing.assert_array_equal(np.concatenate(asked), expected)
        orders.append(expected.tolist())
    assert orders[0] == orders[1] != orders[2]


def test_macro_f1_of_classes_that_are_missing_by_hand():
    """Class 1 alone is the truth; 0 is predicted once, 2 never and is left out.

    Class 1: TP 3, FN 1, FP 0, so 6 / 7; class 0: FP 1, so 0; macro (6/7 + 0) / 2, micro 3 / 4.
    """
    predicted = torch.eye(3)[[1, 1, 0, 1]]
    (found,) = evaluate(predicted[None], torch.tensor([1, 1, 1, 1]))
    assert found.macro_f1 == pytest.approx(3 / 7) and found.micro_f1 == pytest.approx(3 / 4)


def test_macro_f1_of_a_hundred_classes_by_hand():
    """All right but the image of class 99, taken for 0: (98 + 2/3 + 0) / 100."""
    predicted = torch.eye(100)[[*range(99), 0]]
    (found,) = evaluate(predicted[None], torch.arange(100))
    assert found.macro_f1 == pytest.approx((98 + 2 / 3) / 100)
    assert found.micro_f1 == pytest.approx(0.99)


def test_a_hundred_classes():
    """An image of each at the start, and as many in the pool; 40 at a time, the last time 20."""
    data = images_of([*range(100), *range(100)], range(100), 100)
    for name in ("ms", "en", "drla-embed-v1", "badge"):
        method = methods.find(name)
        env = ActiveLearningEnv(data, config({}, query_size=40), HEAD)
        method.make(env, 0, method.settings(env, 0, {})).play(lambda: None)
        episode = env.run.episode
        assert episode.step == 3 and len(episode.query.rows) == 20, name
        assert np.bincount(episode.pool.labels).tolist() == [2] * 100, name


def test_bait_refuses_what_takes_more_memory_than_there_is():
    """10,000 images x 100 classes x 100 classes x 128 features x 8 bytes are 95 GiB."""
    with pytest.raises(ValueError, match="bait needs 95.4 GiB for 10000 images of 100 classes"):
        bait.choose(np.ones((10_000, 128), np.float32), np.full((10_000, 100), 0.01), 10, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_size": 7}, "query_size=7 is larger than the pool of 6 images"),
        ({"budget": 3}, "budget=3 allows 3 labels; the initial set alone has 3. Raise budget"),
        ({"budget": 10}, "budget=10 is more than the 9 training images"),
        ({"initial_size": 10}, "initial_size=10 is more than the 9 training images"),
        ({"initial_size": 9}, "query_size=2 is larger than the pool of 0 images"),
    ],
)
def test_tasks_that_have_no_step_are_refused(change, message):
    data, _, _ = EDGES["classes missing from the test set"]
    with pytest.raises(ValueError, match=message):
        ActiveLearningEnv(data, config(change), HEAD)


def test_a_query_of_the_whole_pool_is_one_step():
    env = make("classes missing from the test set", query_size=6)
    env.reset(seed=0)
    _, _, terminated, _, info = env.step(np.linspace(0, 1, 6))
    assert terminated and info["selected"].tolist() == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_actions_that_are_no_numbers_change_nothing_side_by_side(value):
    data, task, _ = EDGES["classes missing from the test set"]
    envs = ActiveLearningVectorEnv(2, data, config(task), HEAD)
    envs.reset(seed=0)
    before = [state_of(env) for env in envs.envs]
    actions = np.zeros(envs.action_space.shape)
    actions[1, 4] = value
    with pytest.raises(ValueError, match=f"the action holds {value} at pool row 4"):
        envs.step(actions)
    for env, each in zip(envs.envs, before, strict=True):
        assert env.run.episode is each[0]
    assert_unchanged(envs.envs[0], before[0])
