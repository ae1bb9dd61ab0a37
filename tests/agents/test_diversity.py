"""The adapter to scikit-activeml, on a small environment whose features are known."""

import sys
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

from agents import diversity

pytest.importorskip("skactiveml")

N_LABELLED, N_POOL, N_CLASSES = 6, 40, 3


class FeatureEnv(gym.Env):
    """Three clusters of points; the images' rows are 100, 101, ..., the labelled ones first."""

    def __init__(self, dropout=True):
        rng = np.random.default_rng(0)
        self.classes = np.arange(N_LABELLED + N_POOL) % N_CLASSES
        centres = np.eye(N_CLASSES) * 10
        self.features = centres[self.classes] + rng.normal(0, 1, (len(self.classes), N_CLASSES))
        self.action_space = gym.spaces.Box(0, 1, (N_POOL,), np.float32)
        self.observation_space = gym.spaces.Box(0, 1, (N_POOL, N_CLASSES), np.float32)
        self.pool_indices = 100 + np.arange(N_LABELLED, N_LABELLED + N_POOL)
        self.rows = 100 + np.arange(N_LABELLED)
        self.skipped = np.array([], int)  # pool rows that the annotator could not tell
        self.dropout = dropout
        self.observation = rng.dirichlet(np.ones(N_CLASSES), N_POOL).astype(np.float32)

    @property
    def run(self):
        available = ~np.isin(self.pool_indices, self.rows)
        available[self.skipped] = False
        pool = SimpleNamespace(
            indices=self.pool_indices, available=available, labelled=self.rows,
            labels=self.classes[self.rows - 100],
        )  # fmt: skip
        return SimpleNamespace(
            episode=SimpleNamespace(pool=pool),
            embed=self.embed,
            predict_with_dropout=self.predict_with_dropout,
            last_layer=self.last_layer,
        )

    def last_layer(self):
        return np.eye(N_CLASSES, dtype=np.float32), np.zeros(N_CLASSES, np.float32)

    def annotate(self, pool_rows):
        self.rows = np.concatenate([self.rows, self.pool_indices[pool_rows]])
        self.observation[pool_rows] = 0

    def embed(self, indices):
        return self.features[np.asarray(indices) - 100]

    def predict_with_dropout(self, indices, n_draws, seed):
        if not self.dropout:
            raise ValueError("the network has no dropout")
        rows = np.asarray(indices) - 100 - N_LABELLED
        draws = np.tile(np.float32([0.8, 0.1, 0.1]), (n_draws, len(rows), 1))
        doubtful = rows % 10 == 4  # each draw is sure of another class
        for t in range(n_draws):
            draws[t, doubtful] = np.roll(np.float32([0.98, 0.01, 0.01]), t % 3)
        return draws


def chosen(scores, n=5):
    return np.argsort(-scores, kind="stable")[:n]


PARTICULAR = {"EpistemicUncertaintySampling", "FourDs", "ProbabilisticAL"}
"""Strategies that work with a classifier of their own kind alone."""
BY_SIGNATURE = [
    f"skactiveml:{name}" for name in diversity.fitting_strategies() if name not in PARTICULAR
]


@pytest.mark.filterwarnings("ignore")  # of scikit-activeml's own
@pytest.mark.parametrize("name", [*diversity.STRATEGIES, *BY_SIGNATURE])
def test_a_query_is_chosen_best_first_and_only_from_the_pool(name):
    env = FeatureEnv()
    env.annotate([0, 7, 8])
    agent = diversity.FeatureStrategy(name, env, 5, seed=0)
    scores, state = agent.predict(env.observation, state="kept")
    assert scores.shape == (N_POOL,) and scores.dtype == np.float32 and state == "kept"
    assert (scores > 0).sum() == 5 and scores.max() == 1 and scores[[0, 7, 8]].max() == 0
    assert len(np.unique(scores[scores > 0])) == 5


@pytest.mark.parametrize("name", diversity.STRATEGIES)
def test_the_seed_decides_and_the_generator_can_be_restored(name):
    env = FeatureEnv()
    agents = [diversity.FeatureStrategy(name, env, 5, seed=3) for _ in range(2)]
    first = [agent.predict(env.observation)[0] for agent in agents]
    np.testing.assert_array_equal(*first)
    state = agents[0].generator.bit_generator.state
    expected = agents[0].predict(env.observation)[0]
    other = diversity.FeatureStrategy(name, env, 5, seed=8)
    other.generator.bit_generator.state = state
    np.testing.assert_array_equal(other.predict(env.observation)[0], expected)


def test_coreset_is_k_centre_greedy():
    env = FeatureEnv()
    scores, _ = diversity.FeatureStrategy("coreset", env, 4, seed=0).predict(env.observation)
    centres = list(env.features[:N_LABELLED])
    pool = env.features[N_LABELLED:]
    for row in chosen(scores, 4):
        distances = [min(np.linalg.norm(x - c) for c in centres) for x in pool]
        assert row == int(np.argmax(distances))
        centres.append(pool[row])


def test_bald_takes_those_that_the_masks_disagree_on():
    env = FeatureEnv()
    scores, _ = diversity.FeatureStrategy("bald", env, 4, seed=0).predict(env.observation)
    assert sorted(chosen(scores, 4)) == [4, 14, 24, 34]


def test_badge_begins_with_the_largest_gradient_and_spreads():
    env = FeatureEnv()
    scores, _ = diversity.FeatureStrategy("badge", env, 5, seed=0).predict(env.observation)
    softmax, features = env.observation, env.features[N_LABELLED:]
    gradients = []
    for p, x in zip(softmax, features, strict=True):
        gradients.append(np.outer(p - np.eye(N_CLASSES)[p.argmax()], x).ravel())
    assert chosen(scores, 1)[0] == int(np.argmax(np.linalg.norm(gradients, axis=1)))


def test_typiclust_covers_what_no_label_covers():
    env = FeatureEnv()
    env.features[N_LABELLED + 30 :] = np.random.default_rng(1).normal([0, 0, 60], 1, (10, 3))
    scores, _ = diversity.FeatureStrategy("typiclust", env, 3, seed=0).predict(env.observation)
    assert (chosen(scores, 3) >= 30).any()


def test_probcover_uses_the_labels_as_covered():
    env = FeatureEnv()
    scores, _ = diversity.FeatureStrategy("probcover", env, 5, seed=0).predict(env.observation)
    again = FeatureEnv()
    again.annotate(chosen(scores, 1))
    later, _ = diversity.FeatureStrategy("probcover", again, 5, seed=0).predict(again.observation)
    assert chosen(later, 1)[0] != chosen(scores, 1)[0]


@pytest.mark.parametrize("name", ["coreset", "uherding"])
def test_what_was_skipped_is_not_asked_for_again(name):
    env = FeatureEnv()
    strategy = diversity.FeatureStrategy(name, env, 5, seed=0)
    env.skipped = chosen(strategy.scores(env.observation))
    env.observation[env.skipped] = 0
    again = strategy.scores(env.observation)
    assert (again > 0).sum() == 5 and not again[env.skipped].any()


def test_the_last_query_takes_what_is_left():
    env = FeatureEnv()
    env.annotate(np.arange(37))
    for name in diversity.STRATEGIES:
        scores, _ = diversity.FeatureStrategy(name, env, 5, seed=0).predict(env.observation)
        assert sorted(np.flatnonzero(scores)) == [37, 38, 39]


def test_bald_without_dropout_is_a_clear_error():
    agent = diversity.FeatureStrategy("bald", FeatureEnv(dropout=False), 5, seed=0)
    with pytest.raises(ValueError, match="no dropout"):
        agent.predict(FeatureEnv().observation)


def test_the_strategies_that_fit_classification_are_found_by_their_signatures():
    found = diversity.fitting_strategies()
    wanted = "DropQuery Clue Falcun MaxHerding BatchBALD UncertaintySampling Badge QueryByCommittee"
    assert set(wanted.split()) <= set(found)
    for regression_or_wrapper in ("GreedySamplingTarget", "SubSamplingWrapper"):
        assert regression_or_wrapper not in found


@pytest.mark.parametrize("name", sorted(PARTICULAR))
def test_one_that_needs_another_kind_of_classifier_says_so(name):
    agent = diversity.FeatureStrategy(f"skactiveml:{name}", FeatureEnv(), 5, seed=0)
    with pytest.raises(TypeError, match="clf"):
        agent.predict(FeatureEnv().observation)


@pytest.mark.parametrize("known", ["badge", "coreset", "typiclust", "probcover"])
def test_the_known_names_are_those_classes(known):
    names = {"badge": "Badge", "coreset": "CoreSet", "typiclust": "TypiClust"}
    env = FeatureEnv()
    class_name = names.get(known, "ProbCover")
    by_class = diversity.FeatureStrategy(f"skactiveml:{class_name}", env, 5, seed=2)
    by_name = diversity.FeatureStrategy(known, env, 5, seed=2)
    expected = by_name.predict(env.observation)[0]
    np.testing.assert_array_equal(by_class.predict(env.observation)[0], expected)


def test_uncertainty_sampling_sees_the_observed_softmax():
    env = FeatureEnv()
    agent = diversity.FeatureStrategy("skactiveml:UncertaintySampling", env, 5, seed=0)
    least = np.argsort(env.observation.max(axis=1), kind="stable")[:5]
    assert set(chosen(agent.predict(env.observation)[0])) == set(least)


def test_the_classifier_is_the_last_layer_where_it_is_asked_for_other_features():
    env = FeatureEnv()
    view = diversity.View(env, env.observation, seed=0)
    classifier = diversity._classifier(view)
    assert classifier.predict_proba(view.features[N_LABELLED:]) is view.softmax
    logits = np.array([[1.0, 2.0, 0.0]])
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(classifier.predict_proba(logits), expected)


def test_unknown_name_and_missing_package(monkeypatch):
    with pytest.raises(ValueError, match="did you mean 'badge'"):
        diversity.FeatureStrategy("bagde", FeatureEnv(), 5, seed=0)
    with pytest.raises(ValueError, match="no pool strategy 'DropQery'.*did you mean 'DropQuery'"):
        diversity.FeatureStrategy("skactiveml:DropQery", FeatureEnv(), 5, seed=0)
    monkeypatch.setitem(sys.modules, "skactiveml", None)
    with pytest.raises(ImportError, match=r"pip install 'al-gym\[strategies\]'"):
        diversity.FeatureStrategy("badge", FeatureEnv(), 5, seed=0)
