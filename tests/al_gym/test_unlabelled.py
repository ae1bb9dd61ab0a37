"""Labels that are not known, and data sets without test images."""

from dataclasses import replace

import numpy as np
import pytest

from agents import checkpoint
from al_gym.data.dataset import UNKNOWN
from al_gym.rewards import REWARDS
from tests.al_gym.episodes import Clerk, make
from tests.samples import make_dataset

ALL = make_dataset()


@pytest.fixture
def partly():
    """Of every class some training images are known: a third of all."""
    labels = ALL.labels.copy()
    labels[(np.arange(110) % 3 > 0) & (np.arange(110) < 80)] = UNKNOWN
    names = np.array([f"scans/{i}.png" for i in range(110)])
    return replace(ALL, labels=labels, names=names)


@pytest.fixture
def untested():
    """All images are for training."""
    return replace(ALL, train=np.arange(110), test=np.array([], np.int64))


def best(env, rows):
    """An action that asks for these rows of the data set."""
    return np.isin(env.run.episode.pool.indices, rows).astype(float)


# --- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_built_in_annotator_says_which_file_it_was_asked_for(partly, noise):
    env = make(partly, label_noise=noise, initial_size=9)
    env.reset(seed=0)
    known = [row for row in env.run.episode.pool.indices if partly.labels[row] != UNKNOWN][:4]
    before = env.run.state_dict()["np_random"]
    with pytest.raises(ValueError, match=r"scans/1.png is not known \(1 of the 4 .*annotator="):
        env.step(best(env, [*known[:3], 1]))
    assert env.run.state_dict()["np_random"] == before
    *_, info = env.step(best(env, known))
    assert info["n_labelled"] == 13


def test_stratified_starts_are_of_known_images(partly):
    known = np.bincount(ALL.labels[:80][np.arange(80) % 3 == 0])
    for task in ({"initial_fraction": 0.2}, {"initial_size": 9}):
        env = make(partly, **task)
        env.reset(seed=0)
        taken = np.bincount(env.run.episode.pool.labels)
        assert (env.run.episode.pool.labelled % 3 == 0).all()
        if "initial_size" in task:
            assert taken.sum() == 9 and (np.abs(taken - 9 * known / known.sum()) < 1).all()
        else:
            assert taken.tolist() == [max(1, round(0.2 * n)) for n in known.tolist()]


def test_asked_starts_need_an_annotator(partly):
    env = make(partly, initial_set="random", initial_size=9)
    with pytest.raises(ValueError, match=r"the label of scans/\d+.png is not known"):
        env.reset(seed=0)
    env = make(
        partly, initial_set="random", initial_size=9, annotator=Clerk(lambda rows: ALL.labels[rows])
    )
    env.reset(seed=0)
    pool = env.run.episode.pool
    np.testing.assert_array_equal(pool.labels, ALL.labels[pool.labelled])
    assert (pool.labelled % 3 > 0).any()


def test_given_rows_without_labels_are_named(partly):
    env = make(partly, initial_size=3)
    with pytest.raises(ValueError, match="the label of scans/4.png, row 4, is not known"):
        env.reset(seed=0, options={"labelled": [0, 3, 4]})
    asking = make(
        partly, initial_set="random", initial_size=3, annotator=Clerk(lambda rows: ALL.labels[rows])
    )
    asking.reset(seed=0, options={"labelled": [0, 3, 4]})
    assert asking.run.episode.pool.labelled.tolist() == [0, 3, 4]


def test_images_held_out_for_validation_are_known_ones(partly):
    env = make(
        partly, reward="loss_gain", initial_size=6, annotator=Clerk(lambda rows: ALL.labels[rows])
    )
    env.reset(seed=0)
    assert len(env.run.task.validation) and (partly.labels[env.run.task.validation] >= 0).all()
    *_, info = env.step(np.ones(env.action_space.shape))
    assert np.isfinite(env.run.episode.reward) and info["n_labelled"] == 10


def test_rewards_and_starts_that_need_labels_say_so():
    labels = ALL.labels.copy()
    labels[:80] = UNKNOWN
    nothing = replace(ALL, labels=labels)
    for task in ({}, {"reward": "f1_gain", "initial_size": 0}, {"validation_fraction": 0.1}):
        with pytest.raises(ValueError, match="class 'class 0' has no sample .* known label"):
            make(nothing, **task)
    with pytest.raises(ValueError, match="initial_size=3 is more than the 0 training images with"):
        make(nothing, initial_size=3)
    env = make(nothing, initial_size=0, annotator=Clerk(lambda rows: ALL.labels[rows]))
    env.reset(seed=0)
    assert env.step(np.ones(env.action_space.shape))[4]["n_labelled"] == 4


def test_full_supervision_says_which_label_it_lacks(partly):
    env = make(partly, initial_size=9)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="the label of scans/1.png is not known"):
        env.run.evaluate_fully_supervised()


# --- no test images -------------------------------------------------------------------------------


def test_without_test_images_scores_are_nan_and_all_else_goes_on(untested):
    env = make(untested, budget=0.3)
    env.reset(seed=0)
    terminated = False
    while not terminated:
        observation, reward, terminated, _, info = env.step(np.ones(env.action_space.shape))
        assert np.isnan([info["macro_f1"], info["micro_f1"]]).all() and info["evaluated_at"] == 0
        assert np.isfinite(observation).all() and 0 <= reward < 1
    assert info["n_labelled"] == 33
    assert len(env.run.episode.curve) == 1 and np.isnan(env.run.episode.curve[0][1])
    for scores in (env.run.evaluate_retrained(), env.run.evaluate_fully_supervised()):
        assert np.isnan([scores.macro_f1, scores.micro_f1, scores.cross_entropy]).all()


@pytest.mark.parametrize("reward", REWARDS)
def test_every_reward_works_without_test_images(untested, reward):
    env = make(untested, reward=reward)
    env.reset(seed=0)
    assert np.isfinite(env.step(np.ones(env.action_space.shape))[1])


def test_a_state_without_scores_survives_a_file(untested, tmp_path):
    env, other = make(untested), make(untested)
    env.reset(seed=0)
    env.step(np.ones(env.action_space.shape))
    path = checkpoint.write(tmp_path / "state", env.run.state_dict())
    other.run.load_state_dict(checkpoint.read(path))
    action = np.linspace(0, 1, env.action_space.shape[0])
    one, two = env.step(action), other.step(action)
    np.testing.assert_array_equal(one[0], two[0])
    assert one[1] == two[1] and np.isnan(two[4]["macro_f1"])


def test_pictures_say_that_nothing_is_measured(untested):
    env = make(untested, render_mode="ansi")
    env.reset(seed=0)
    assert "macro F1 not measured  micro F1 not measured" in env.render()
    env = make(untested, render_mode="rgb_array")
    env.reset(seed=0)
    env.step(np.ones(env.action_space.shape))
    assert env.render()[100:, 700:].std() < 5  # no curve
