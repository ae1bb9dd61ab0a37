"""The environment against its specification: Algorithm 1, Eq. 2 and Eq. 3, seeds, and failures."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from torch import nn

from al_gym import ClassifierConfig
from al_gym.classifiers import make_classifiers
from al_gym.classifiers.counters import Counters
from al_gym.classifiers.networks import NetworkClassifier
from tests.al_gym.episodes import Clerk, assert_equal, make, run, scores_for
from tests.samples import FAST, One, make_dataset

# --- spaces and start -----------------------------------------------------------------------------


def test_spaces_have_a_row_for_every_unlabelled_sample(env, dataset):
    counts = np.bincount(dataset.labels[dataset.train])
    n_initial = sum(max(1, round(0.1 * int(count))) for count in counts)
    assert env.observation_space == gym.spaces.Box(0, 1, (80 - n_initial, 3), np.float32)
    assert env.action_space == gym.spaces.Box(0, 1, (80 - n_initial,), np.float32)


def test_the_initial_set_is_stratified(env, dataset):
    _, info = env.reset(seed=0)
    labelled = env.run.episode.pool.labelled
    counts = np.bincount(dataset.labels[dataset.train])
    expected = [max(1, round(0.1 * int(count))) for count in counts]
    assert np.bincount(dataset.labels[labelled]).tolist() == expected
    assert info["n_labelled"] == len(labelled) == sum(expected)
    assert info["labelled_fraction"] == pytest.approx(len(labelled) / 80)
    assert info["available"].all() and env.run.episode.query.rows.size == 0


def test_the_classifier_is_pretrained_on_the_initial_set(env, dataset):
    observation, info = env.reset(seed=0)
    rows = env.run.episode.pool.labelled
    twin = One(make_classifiers(dataset, FAST), seed=None)
    children = np.random.SeedSequence(env.run.start.seed).spawn(4)
    twin.initialize(np.random.default_rng(children[1]))
    twin.fit(rows, dataset.labels[rows], FAST.pretrain_passes, np.random.default_rng(children[2]))
    np.testing.assert_array_equal(observation, twin.predict(env.run.episode.pool.indices))
    predicted = twin.predict(dataset.test).argmax(1)
    assert info["micro_f1"] == pytest.approx((predicted == dataset.labels[dataset.test]).mean())


# --- Eq. 2 and Eq. 3 by hand ----------------------------------------------------------------------


class Lookup(nn.Module):
    """Logits read off the image: the normalised pixel (j, 0) is the logit of class j."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3)
        nn.init.eye_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        return self.head(x[:, 0, :3, 0])


def test_eq_2_and_eq_3_against_numbers_worked_by_hand(dataset):
    """With a network that only reads logits and does not move, S and r can be worked out."""
    frozen = ClassifierConfig(
        network=Lookup(), pretrain_passes=0, update_passes=0, learning_rate=1.0, device="cpu"
    )
    env = make(dataset, frozen)
    observation, _ = env.reset(seed=0)
    indices = env.run.episode.pool.indices
    images = dataset.images.astype(float)
    mean = images[dataset.train][:, 0].mean()
    std = images[dataset.train][:, 0].std()
    logits = (images[indices, 0, :3, 0] - mean) / std
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(observation, expected, atol=1e-5)

    rows = [5, 0, 17, 9]
    _, reward, _, _, info = env.step(scores_for(env, rows))
    truth = dataset.labels[indices[rows]]
    by_hand = [expected[i].max() - expected[i][k] for i, k in zip(rows, truth, strict=True)]
    np.testing.assert_allclose(info["sample_rewards"], by_hand, atol=1e-5)
    assert reward == pytest.approx(sum(by_hand) / 4, abs=1e-5)
    assert 0 < reward < 1


def test_the_reward_judges_the_predictions_in_s_or_those_after_the_update(dataset):
    for timing in ("before_update", "after_update"):
        env = make(dataset, reward_timing=timing, labelled_rows="predict")
        before, _ = env.reset(seed=0)
        after, reward, _, _, info = env.step(scores_for(env, [3, 1, 8, 2]))
        judged = (before if timing == "before_update" else after)[info["selected"]]
        truth = dataset.labels[env.run.episode.pool.indices[info["selected"]]]
        expected = (judged.max(1) - judged[np.arange(4), truth]).mean()
        assert reward == pytest.approx(float(expected), abs=1e-6)


# --- the step -------------------------------------------------------------------------------------


def test_the_best_scored_samples_are_annotated_and_their_rows_become_zero(env, dataset):
    env.reset(seed=0)
    observation, _, _, _, info = env.step(scores_for(env, [7, 2, 30, 11]))
    assert info["selected"].tolist() == [7, 2, 30, 11]
    assert (observation[[7, 2, 30, 11]] == 0).all()
    others = np.delete(observation, [7, 2, 30, 11], axis=0)
    np.testing.assert_allclose(others.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(info["available"], observation.any(1))
    pool = env.run.episode.pool
    np.testing.assert_array_equal(pool.labelled[-4:], pool.indices[[7, 2, 30, 11]])
    np.testing.assert_array_equal(pool.labels[-4:], dataset.labels[pool.labelled[-4:]])


def test_annotated_samples_are_never_taken_again(env):
    env.reset(seed=0)
    action = np.linspace(0, 1, env.action_space.shape[0], dtype=np.float32)
    seen = []
    for _ in range(4):
        seen += env.step(action)[4]["selected"].tolist()
    assert seen == list(range(len(action) - 1, len(action) - 17, -1))


def test_ties_are_broken_at_random_and_by_the_seed(dataset):
    env = make(dataset)
    chosen = []
    for seed in (0, 0, 1):
        env.reset(seed=seed)
        chosen.append(env.step(np.ones(env.action_space.shape))[4]["selected"].tolist())
    assert chosen[0] == chosen[1] != chosen[2]
    assert chosen[0] != [0, 1, 2, 3]


def test_only_unlabelled_rows_are_inferred(env, monkeypatch):
    env.reset(seed=0)
    asked = []
    predict = NetworkClassifier.predict
    monkeypatch.setattr(
        NetworkClassifier,
        "predict",
        lambda self, rows: asked.append(len(rows)) or predict(self, rows),
    )
    n_pool = env.action_space.shape[0]
    env.step(np.ones(n_pool))
    env.step(np.ones(n_pool))
    assert asked == [n_pool - 4, 30, n_pool - 8, 30]


def test_labelled_rows_may_be_predicted_on(dataset):
    env = make(dataset, labelled_rows="predict")
    env.reset(seed=0)
    observation, *_ = env.step(np.ones(env.action_space.shape))
    np.testing.assert_allclose(observation.sum(1), 1, atol=1e-5)


def test_the_classifier_is_trained_on_everything_labelled(env, dataset, monkeypatch):
    env.reset(seed=0)
    trained = []
    monkeypatch.setattr(
        NetworkClassifier,
        "fit",
        lambda self, lesson, passes: trained.append((lesson.indices, passes)),
    )
    env.step(scores_for(env, [1, 2, 3, 4]))
    ((rows, passes),) = trained
    np.testing.assert_array_equal(rows, env.run.episode.pool.labelled)
    assert passes == FAST.update_passes


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [0.3, 1.0])
def test_the_episode_ends_with_the_budget_and_the_last_query_takes_what_is_left(dataset, budget):
    env = make(dataset, budget=budget, query_size=7)
    _, info = env.reset(seed=0)
    sizes, terminated = [], False
    while not terminated:
        action = np.ones(env.action_space.shape)
        observation, _, terminated, truncated, info = env.step(action)
        assert not truncated
        sizes.append((info["selected"] >= 0).sum())
    assert info["n_labelled"] == round(budget * 80)
    assert len(sizes) == env.max_steps
    n_initial = 80 - env.action_space.shape[0]
    assert set(sizes[:-1]) == {7} and sizes[-1] == (round(budget * 80) - n_initial - 1) % 7 + 1
    assert observation.any() == (budget < 1)
    with pytest.raises(gym.error.ResetNeeded, match="call reset"):
        env.step(np.ones(env.action_space.shape))


def test_reset_comes_first(env):
    for use in (
        lambda: env.step(np.ones(env.action_space.shape)),
        lambda: env.run.embed(np.arange(3)),
    ):
        with pytest.raises(gym.error.ResetNeeded):
            use()


# --- seeds ----------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_trajectories(dataset):
    assert_equal(run(make(dataset)), run(make(dataset)))
    first, other = run(make(dataset)), run(make(dataset), seed=1)
    assert not np.array_equal(first[0], other[0])


def test_an_earlier_episode_does_not_matter_to_a_seeded_one(dataset):
    env = make(dataset, label_noise=0.3)
    run(env, seed=5, action_seed=3)
    again = run(env)
    assert_equal(again, run(make(dataset, label_noise=0.3)))
    assert_equal(again, run(env))  # from the kept weights


def test_methods_on_one_seed_start_equal(dataset):
    env = make(dataset)
    starts = []
    for action_seed in (0, 1):
        observation, _ = env.reset(seed=3)
        weights = One(env.run.classifiers, seed=None).weights
        starts.append((observation, env.run.episode.pool.labelled, weights))
        rng = np.random.default_rng(action_seed)
        for _ in range(3):
            env.step(rng.random(env.action_space.shape))
    np.testing.assert_array_equal(starts[0][0], starts[1][0])
    np.testing.assert_array_equal(starts[0][1], starts[1][1])
    for name, value in starts[0][2].items():
        assert (value == starts[1][2][name]).all()


def test_a_reset_without_a_seed_restores_the_pretrained_weights(env, monkeypatch):
    first, _ = env.reset(seed=0)
    labelled = env.run.episode.pool.labelled
    env.step(np.ones(env.action_space.shape))
    monkeypatch.setattr(NetworkClassifier, "fit", lambda *_: pytest.fail("trained again"))
    second, _ = env.reset()
    assert env.run.counters == Counters()  # nothing trained, nothing predicted
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(labelled, env.run.episode.pool.labelled)


def test_episodes_without_a_seed_still_differ(env):
    env.reset(seed=0)
    first = env.step(np.ones(env.action_space.shape))[4]["selected"]
    env.reset()
    assert not np.array_equal(first, env.step(np.ones(env.action_space.shape))[4]["selected"])


def test_resample_initial_draws_anew(dataset):
    env = make(dataset, resample_initial=True)
    env.reset(seed=0)
    first = env.run.episode.pool.labelled
    env.reset()
    assert not np.array_equal(first, env.run.episode.pool.labelled)


def test_a_given_initial_set(env, dataset):
    env.reset(seed=0)
    rows = dataset.train[np.r_[0:3, 20 : 20 + env.run.task.n_initial - 3]][::-1]
    observation, _ = env.reset(seed=0, options={"labelled": rows})
    np.testing.assert_array_equal(env.run.episode.pool.labelled, np.sort(rows))
    assert not set(env.run.episode.pool.indices) & set(rows)
    again, _ = env.reset(options={"labelled": rows})
    np.testing.assert_array_equal(observation, again)
    drawn, _ = env.reset()
    assert not np.array_equal(drawn, observation)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labeled": [1]}, "unknown reset options"),
        ({"labelled": [0, 1, 2]}, "has 3 rows"),
        ({"labelled": [0] * 9}, "1 of them different"),
        ({"labelled": [0.5] * 9}, "list of data-set rows"),
    ],
)
def test_a_bad_initial_set_is_refused_and_the_episode_goes_on(env, options, message):
    env.reset(seed=0)
    before = env.np_random.bit_generator.state
    with pytest.raises(ValueError, match=message):
        env.reset(seed=1, options=options)
    assert env.np_random.bit_generator.state == before
    env.step(np.ones(env.action_space.shape))


def test_a_given_initial_set_may_lack_a_class_and_not_hold_test_rows(env, dataset):
    n = env.run.task.n_initial
    common = dataset.train[dataset.labels[dataset.train] == 0][:n]
    assert len(common) == n
    env.reset(options={"labelled": common})
    assert set(env.run.episode.pool.labels) == {0}
    with pytest.raises(ValueError, match="not in the training set"):
        env.reset(options={"labelled": dataset.test[:n]})


# --- looking at the test set ----------------------------------------------------------------------


def test_scores_are_the_last_known_between_two_looks(dataset):
    env = make(dataset, eval_every=3, budget=0.6)
    _, info = env.reset(seed=0)
    at, f1, terminated = [], [], False
    while not terminated:
        *_, terminated, _, info = env.step(np.ones(env.action_space.shape))
        at.append(info["evaluated_at"])
        f1.append(info["macro_f1"])
    n = len(at)
    assert at[:7] == [0, 0, 3, 3, 3, 6, 6] and at[-1] == n
    assert f1[2] == f1[3] == f1[4]


def test_the_test_set_decides_nothing(dataset):
    other = replace(dataset, labels=np.where(np.arange(110) < 80, dataset.labels, 0))
    a, b = run(make(dataset)), run(make(other))
    for i in (0, 3, 4, 8, 9, 10, 14):  # observations, rewards, selections
        np.testing.assert_array_equal(a[i], b[i])
    assert a[1] != b[1]


# --- other rewards and annotators -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["f1_gain", "loss_gain"])
def test_gains_are_measured_on_images_held_out_of_the_training_set(dataset, name):
    env = make(dataset, reward=name)
    env.reset(seed=0)
    held_out = set(env.run.task.validation)
    assert len(held_out) >= 8 and held_out <= set(dataset.train)
    assert not held_out & set(env.run.episode.pool.indices)
    assert not held_out & set(env.run.episode.pool.labelled)
    total, terminated = 0.0, False
    first = env.run.episode.validation
    while not terminated:
        _, reward, terminated, _, info = env.step(np.ones(env.action_space.shape))
        total += reward
    last = env.run.episode.validation
    gain = (
        last.macro_f1 - first.macro_f1
        if name == "f1_gain"
        else first.cross_entropy - last.cross_entropy
    )
    assert total == pytest.approx(gain, abs=1e-5)
    assert info["labelled_fraction"] == 1.0


def test_a_reward_of_the_users_own(dataset):
    outcomes = []

    def reward(outcome):
        outcomes.append(outcome)
        return 7

    env = make(dataset, reward=reward, validation_fraction=0.2)
    env.reset(seed=0)
    value = env.step(np.ones(env.action_space.shape))[1]
    assert value == 7.0 and isinstance(value, float)
    assert outcomes[0].validation_after is not None and len(outcomes[0].sample_rewards) == 4


def test_label_noise_reaches_the_labels_and_the_reward(dataset):
    env = make(dataset, label_noise=1.0)
    before, _ = env.reset(seed=0)
    *_, info = env.step(np.ones(env.action_space.shape))
    pool = env.run.episode.pool
    assert (pool.labels[-4:] != dataset.labels[pool.labelled[-4:]]).all()
    assert (pool.labels[:-4] == dataset.labels[pool.labelled[:-4]]).all()
    judged = before[info["selected"]]
    expected = judged.max(1) - judged[np.arange(4), pool.labels[-4:]]
    np.testing.assert_allclose(info["sample_rewards"], expected, atol=1e-6)


def test_an_annotator_of_the_users_own(dataset):
    env = make(dataset, annotator=Clerk(lambda indices: np.full(len(indices), 2)))
    env.reset(seed=0)
    env.step(np.ones(env.action_space.shape))
    assert env.run.episode.pool.labels[-4:].tolist() == [2, 2, 2, 2]
    with pytest.raises(ValueError, match="label_noise"):
        make(dataset, annotator=Clerk(None), label_noise=0.1)


# --- settings that do not fit ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"query_size": 1000}, "query_size=1000 is larger than the pool of"),
        ({"budget": 0.05}, "budget=0.05 allows 4 labels; the initial set alone"),
        ({"budget": 0.0}, "budget must lie in"),
        ({"budget": 1.5}, "budget must lie in"),
        ({"query_size": 0}, "query_size"),
        ({"eval_every": 0}, "eval_every"),
        ({"initial_fraction": 1.0}, "initial_fraction"),
        ({"reward": "f1gain"}, "did you mean 'f1_gain'"),
        ({"reward_timing": "never"}, "reward_timing"),
        ({"labelled_rows": "keep"}, "labelled_rows"),
        ({"label_noise": 2.0}, "label_noise"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
    ],
)
def test_settings_that_do_not_fit_are_named(dataset, task, message):
    with pytest.raises(ValueError, match=message):
        make(dataset, **task)


def test_a_class_without_a_training_sample_is_named():
    dataset = make_dataset()
    kept = dataset.train[dataset.labels[dataset.train] != 1]
    with pytest.raises(ValueError, match="'class 1' has no sample"):
        make(replace(dataset, train=kept))


def test_an_unknown_render_mode(dataset):
    with pytest.raises(ValueError, match="render_mode"):
        make(dataset, render_mode="human")
