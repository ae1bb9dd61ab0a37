"""Environments side by side: the trajectories of single ones, Gymnasium's autoreset, failures."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from al_gym import ActiveLearningEnv, ActiveLearningVectorEnv, ClassifierConfig, EnvConfig
from al_gym.classifiers.networks import NetworkClassifier
from al_gym.vector import AutoresetMode, stacked
from tests.samples import make_dataset

FAST = {"device": "cpu", "pretrain_passes": 2, "learning_rate": 0.05}
TASK = EnvConfig(initial_fraction=0.1, query_size=6, budget=0.3)


@pytest.fixture(scope="module")
def dataset():
    return make_dataset(size=8)


def make_vector(dataset, n=3, task=TASK, autoreset_mode="NextStep", annotator=None, **change):
    settings = ClassifierConfig(**{**FAST, **change})
    return ActiveLearningVectorEnv(
        n, dataset, task, settings, annotator=annotator, autoreset_mode=autoreset_mode
    )


def make_single(dataset, task=TASK, **change):
    return ActiveLearningEnv(dataset, task, ClassifierConfig(**{**FAST, **change}))


def actions_for(observations, rng):
    return rng.random(observations.shape[:2]).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "tolerance"),
    [
        ({}, 0),
        ({"dropout": 0.3}, 0),
        ({"update": "scratch"}, 0),
        ({"trainable": "head"}, 1e-6),
        ({"trainable": "head", "dropout": 0.3, "momentum": 0.9}, 1e-6),
        ({"trainable": "head", "update": "scratch"}, 1e-6),
    ],
)
def test_the_trajectories_are_those_of_single_environments(dataset, change, tolerance):
    vector = make_vector(dataset, **change)
    singles = [make_single(dataset, **change) for _ in range(3)]
    observations, infos = vector.reset(seed=7)
    for k, env in enumerate(singles):
        observation, info = env.reset(seed=7 + k)
        np.testing.assert_allclose(observations[k], observation, rtol=0, atol=tolerance)
        assert infos["macro_f1"][k] == info["macro_f1"]
    rng = np.random.default_rng(0)
    for _ in range(vector.max_steps):
        actions = actions_for(observations, rng)
        observations, rewards, terminations, truncations, infos = vector.step(actions)
        for k, env in enumerate(singles):
            observation, reward, terminated, _, info = env.step(actions[k])
            np.testing.assert_allclose(observations[k], observation, rtol=0, atol=tolerance)
            assert rewards[k] == pytest.approx(reward, abs=tolerance)
            assert (terminations[k], truncations[k]) == (terminated, False)
            np.testing.assert_array_equal(infos["selected"][k], info["selected"])
            assert infos["macro_f1"][k] == info["macro_f1"]
    assert terminations.all()


def test_one_reset_at_the_next_step_as_gymnasium_does(dataset):
    vector = make_vector(dataset)
    reference = SyncVectorEnv([lambda: make_single(dataset)] * 3)
    assert vector.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    observations, _ = vector.reset(seed=0)
    expected, _ = reference.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(vector.max_steps + 3):
        actions = actions_for(observations, rng)
        observations, rewards, terminations, _, infos = vector.step(actions)
        expected, *rest = reference.step(actions)
        np.testing.assert_array_equal(observations, expected)
        np.testing.assert_array_equal(rewards, rest[0])
        np.testing.assert_array_equal(terminations, rest[1])
        assert infos.keys() == rest[3].keys() and infos["_n_labelled"].all()
        for key, values in rest[3].items():
            np.testing.assert_array_equal(infos[key], values, err_msg=key)
            assert infos[key].dtype == values.dtype, key


def test_a_reset_in_the_same_step_keeps_what_was_last_seen(dataset):
    vector, twin = make_vector(dataset, autoreset_mode="SameStep"), make_vector(dataset)
    first, _ = vector.reset(seed=0)
    observations, _ = twin.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(vector.max_steps):
        actions = actions_for(observations, rng)
        observations, rewards, terminations, _, infos = twin.step(actions)
        again, same_rewards, same_terminations, _, same_infos = vector.step(actions)
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(same_rewards, rewards)
    assert terminations.all() and same_terminations.all()
    np.testing.assert_array_equal(same_infos["final_obs"], observations)
    np.testing.assert_array_equal(same_infos["final_info"]["macro_f1"], infos["macro_f1"])
    assert (same_infos["n_labelled"] == vector.envs[0].run.episode.pool.labelled.size).all()
    *_, terminations, _, infos = vector.step(actions)
    assert not terminations.any() and "final_obs" not in infos


def test_no_reset_unasked_and_one_for_some(dataset):
    vector = make_vector(dataset, autoreset_mode="Disabled")
    observations, _ = vector.reset(seed=[3, 4, 5])
    first = observations.copy()
    for _ in range(vector.max_steps):
        observations, *_ = vector.step(np.ones(observations.shape[:2]))
    with pytest.raises(gym.error.ResetNeeded):
        vector.step(np.ones(observations.shape[:2]))
    mask = np.array([False, True, False])
    partly, infos = vector.reset(options={"reset_mask": mask})
    np.testing.assert_array_equal(partly[1], first[1])
    np.testing.assert_array_equal(partly[[0, 2]], observations[[0, 2]])
    assert infos["_macro_f1"].tolist() == mask.tolist()
    for wrong in ([True] * 3, np.ones(2, bool), np.ones(3), np.zeros(3, bool)):
        with pytest.raises(ValueError, match="reset_mask"):
            vector.reset(options={"reset_mask": wrong})


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_a_step_that_fails_for_one_changes_none(dataset, trainable):
    class Clerk:
        """Goes home in the middle of a step."""

        def __init__(self):
            self.n_left = 100

        def annotate(self, indices):
            self.n_left -= 1
            if not self.n_left:
                raise ConnectionError("gone home")
            return dataset.labels[indices]

    clerk = Clerk()
    vector = make_vector(dataset, annotator=clerk, trainable=trainable)
    observations, _ = vector.reset(seed=0)
    actions = actions_for(observations, np.random.default_rng(0))
    before = [env.run.state_dict() for env in vector.envs]
    clerk.n_left = 3
    with pytest.raises(ConnectionError):
        vector.step(actions)
    for env, state in zip(vector.envs, before, strict=True):
        assert env.run.state_dict()["np_random"] == state["np_random"]
        assert env.run.counters.samples_trained == 0
    clerk.n_left = 100
    after, rewards, *_ = vector.step(actions)
    fresh = make_vector(dataset, trainable=trainable)
    fresh.reset(seed=0)
    expected, expected_rewards, *_ = fresh.step(actions)
    np.testing.assert_array_equal(after, expected)
    np.testing.assert_array_equal(rewards, expected_rewards)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_reset_that_fails_within_a_step_changes_none(dataset, mode, monkeypatch):
    """The automatic reset trains anew, and that may fail as well."""
    task = EnvConfig(initial_fraction=0.1, query_size=30, budget=0.8, resample_initial=True)
    vector = make_vector(dataset, task=task, autoreset_mode=mode)
    vector.reset(seed=0)
    actions = np.ones(vector.action_space.shape)
    n_before_the_end = vector.max_steps - (mode == "SameStep")
    for _ in range(n_before_the_end):
        vector.step(actions)
    labelled = [env.run.episode.pool.labelled for env in vector.envs]
    states = [env.run.state_dict() for env in vector.envs]
    monkeypatch.setattr(
        NetworkClassifier, "initialize", lambda *_: (_ for _ in ()).throw(MemoryError("no room"))
    )
    with pytest.raises(MemoryError):
        vector.step(actions)
    monkeypatch.undo()
    for env, rows, state in zip(vector.envs, labelled, states, strict=True):
        np.testing.assert_array_equal(env.run.episode.pool.labelled, rows)
        assert env.run.state_dict()["np_random"] == state["np_random"]
    *_, infos = vector.step(actions)
    n_start = len(states[0]["start"]["labelled"])
    assert (infos["n_labelled"] == n_start).all()


def test_an_episode_loaded_into_one_of_them_counts(dataset):
    vector = make_vector(dataset)
    vector.reset(seed=0)
    start = vector.envs[1].run.state_dict()
    actions = np.ones(vector.action_space.shape)
    for _ in range(vector.max_steps):
        vector.step(actions)
    vector.envs[1].run.load_state_dict(start)
    *_, infos = vector.step(actions)
    n_start = len(start["start"]["labelled"])
    assert infos["n_labelled"].tolist() == [n_start, n_start + 6, n_start]


def test_the_first_reset_is_of_all(dataset):
    vector = make_vector(dataset)
    with pytest.raises(gym.error.ResetNeeded, match="first reset"):
        vector.reset(seed=0, options={"reset_mask": np.array([True, False, False])})
    observations, _ = vector.reset(seed=np.int64(4))
    np.testing.assert_array_equal(observations[1], make_single(dataset).reset(seed=5)[0])


def test_gymnasium_makes_it_over_one_copy_of_the_images(chestct_root):
    vector = gym.make_vec(
        "ActiveLearning-chestCT-v0", num_envs=2, vectorization_mode="vector_entry_point",
        profile="embedded", root=str(chestct_root), n_train=40, n_test=20, patch_size=8,
        query_size=4, **FAST,
    )  # fmt: skip
    assert isinstance(vector, ActiveLearningVectorEnv)
    assert vector.envs[0].run.dataset is vector.envs[1].run.dataset
    images = [member._images for member in vector.loop.classifiers.members]
    assert images[0] is images[1]
    observations, _ = vector.reset(seed=0)
    assert vector.observation_space.contains(observations)
    assert vector.action_space.shape == (2, *vector.single_action_space.shape)
    vector.close()


def test_attributes_and_pictures_of_each(dataset):
    vector = ActiveLearningVectorEnv(2, dataset, TASK, ClassifierConfig(**FAST), render_mode="ansi")
    vector.reset(seed=0)
    assert vector.get_attr("max_steps") == (vector.max_steps,) * 2
    first, second = (env.run.start_fingerprint() for env in vector.envs)
    assert first != second
    assert all("labelled" in line for line in vector.render())


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda v: make_vector(v.envs[0].run.dataset, n=0), "num_envs must be at least 1"),
        (lambda v: make_vector(v.envs[0].run.dataset, autoreset_mode="Never"), "Never"),
        (lambda v: v.reset(seed=[1, 2]), "2 seeds for 3 environments"),
        (lambda v: v.step(np.ones((2, 5))), "2 actions for 3 environments"),
        (lambda v: v.reset(options={"x": 1}), "unknown reset options"),
    ],
)
def test_bad_input_is_named(dataset, act, message):
    vector = make_vector(dataset)
    vector.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        act(vector)


def test_infos_are_stacked_with_masks():
    infos = stacked([{"a": 1.5, "b": np.arange(2)}, {"b": np.arange(2, 4)}, {}])
    assert infos["a"].tolist() == [1.5, 0, 0] and infos["_a"].tolist() == [True, False, False]
    assert infos["b"].tolist() == [[0, 1], [2, 3], [0, 0]] and infos["b"].dtype == np.int64
    assert infos["_b"].tolist() == [True, True, False]
