"""``info`` has the same shapes in every step: Gymnasium's own vector environments, collectors."""

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from gymnasium.wrappers import vector as vector_wrappers
from stable_baselines3.common import env_checker as sb3

from al_gym import ActiveLearningVectorEnv
from al_gym.data.dataset import UNKNOWN
from al_gym.vector import AutoresetMode
from tests.al_gym.episodes import TASK, Clerk, make, scores_for
from tests.samples import FAST, SINCE_GYMNASIUM_1_1, make_dataset

HEAD = replace(FAST, trainable="head")
"""Whose steps are short: it is not about what is trained."""
SHORT = {"budget": 0.2, "query_size": 5}
"""16 labels, of which 8 or 9 are the start: queries of 5 and of what is left."""


@pytest.fixture(scope="module")
def dataset():
    return make_dataset(size=8)


def whole_episode(env, seed=0):
    """The infos of an episode."""
    infos, terminated = [env.reset(seed=seed)[1]], False
    while not terminated:
        *_, terminated, _, info = env.step(np.ones(env.action_space.shape))
        infos.append(info)
    return infos


def test_infos_of_an_episode_can_be_stacked_as_collectors_do(dataset):
    """Minari's keeps the first info's structure, and stacks every key."""
    infos = whole_episode(make(dataset, **SHORT))
    stacked = {key: np.stack([info[key] for info in infos]) for key in infos[0]}
    assert all(info.keys() == infos[0].keys() for info in infos)
    n_left = 16 - infos[0]["n_labelled"]
    assert len(infos) == 3 and 5 < n_left < 10
    assert all(array.dtype.kind in "biuf" for array in stacked.values())
    assert stacked["selected"].shape == stacked["sample_rewards"].shape == (3, 5)
    assert stacked["selected"].dtype == np.int64 and stacked["sample_rewards"].dtype == np.float32
    asked = np.array([0, 5, n_left - 5])[:, None] > np.arange(5)
    np.testing.assert_array_equal(stacked["selected"] >= 0, asked)
    np.testing.assert_array_equal(stacked["selected"] == -1, ~asked)
    np.testing.assert_array_equal(np.isnan(stacked["sample_rewards"]), ~asked)
    for before, now in itertools.pairwise(infos):
        for key, value in before.items():
            assert type(now[key]) is type(value)


def test_values_are_of_numpy_as_torchrls_readers_want_them(dataset):
    """They look for a shape and a type, and make a specification of these for each key."""
    types = {
        "labelled_fraction": np.float64, "n_labelled": np.int64, "n_skipped": np.int64,
        "macro_f1": np.float64, "micro_f1": np.float64, "evaluated_at": np.int64,
        "selected": np.int64, "sample_rewards": np.float32, "available": np.bool_,
    }  # fmt: skip
    for info in whole_episode(make(dataset, **SHORT)):
        assert {key: value.dtype.type for key, value in info.items()} == types
        for key, value in info.items():
            array = key in ("selected", "sample_rewards", "available")
            assert isinstance(value, np.ndarray if array else np.generic)


def test_names_of_what_was_selected_best_first():
    dataset = make_dataset()
    named = replace(dataset, names=np.array([f"scans/{i}.png" for i in range(110)]))
    env = make(named)
    env.reset(seed=0)
    assert env.selected_names == ()
    rows = [7, 2, 30, 11]
    env.step(scores_for(env, rows))
    expected = tuple(f"scans/{i}.png" for i in env.run.episode.pool.indices[rows])
    assert env.get_wrapper_attr("selected_names") == expected == env.run.selected_names
    assert all(type(name) is str for name in env.selected_names)


# --- Gymnasium's own vector environments ----------------------------------------------------------


def small():
    """At the top of a module, so that another process can make it."""
    return make(make_dataset(size=8), HEAD, **SHORT)


def out_of_step(vector, n_steps=7):
    """One of two environments is reset on its way; everything that is seen."""
    rng = np.random.default_rng(0)
    seen = [vector.reset(seed=3)[1]]
    seen.append(vector.step(rng.random(vector.action_space.shape))[4])
    seen.append(vector.reset(options={"reset_mask": np.array([True, False])})[1])
    for _ in range(n_steps):
        *_, over, _, infos = vector.step(rng.random(vector.action_space.shape))
        seen.append(infos)
        if vector.metadata["autoreset_mode"] is AutoresetMode.DISABLED and over.any():
            seen.append(vector.reset(options={"reset_mask": over})[1])
    vector.close()
    return seen


@SINCE_GYMNASIUM_1_1
@pytest.mark.parametrize("mode", AutoresetMode)
def test_gymnasiums_vector_environment_with_members_out_of_step(mode):
    seen = out_of_step(SyncVectorEnv([small, small], autoreset_mode=mode))
    lengths = [tuple((infos["selected"] >= 0).sum(1)) for infos in seen]
    assert (0, 0) in lengths and any(len(set(each)) == 2 for each in lengths)
    for infos in seen:
        assert infos["selected"].shape == infos["sample_rewards"].shape == (2, 5)
        assert (np.isnan(infos["sample_rewards"]) == (infos["selected"] == -1))[
            infos["_selected"]
        ].all()


@pytest.mark.slow
def test_in_processes_of_their_own_it_is_the_same():
    one = out_of_step(SyncVectorEnv([small, small]))
    other = out_of_step(AsyncVectorEnv([small, small], context="spawn"))
    for infos, others in zip(one, other, strict=True):
        assert infos.keys() == others.keys()
        for key, values in infos.items():
            np.testing.assert_array_equal(values, others[key], err_msg=key)


# --- Gymnasium's wrappers over ours ---------------------------------------------------------------


def ours(mode):
    task = replace(TASK, **SHORT)
    return ActiveLearningVectorEnv(2, make_dataset(size=8), task, HEAD, autoreset_mode=mode)


@SINCE_GYMNASIUM_1_1
@pytest.mark.parametrize("mode", AutoresetMode)
def test_ours_out_of_step_tells_what_gymnasiums_does(mode):
    theirs = out_of_step(SyncVectorEnv([small, small], autoreset_mode=mode))
    for infos, others in zip(out_of_step(ours(mode)), theirs, strict=True):
        assert infos.keys() == others.keys()
        for key in ("n_labelled", "evaluated_at", "available", "_selected", "_n_labelled"):
            np.testing.assert_array_equal(infos[key], others[key], err_msg=key)
            assert infos[key].dtype == others[key].dtype


@SINCE_GYMNASIUM_1_1
@pytest.mark.parametrize("mode", AutoresetMode)
def test_statistics_of_episodes_that_end_at_different_steps(mode):
    """Gymnasium's own takes the mask out of the caller's options: the wrapper forgets both."""
    vector = vector_wrappers.RecordEpisodeStatistics(ours(mode))
    vector.reset(seed=3)
    actions = np.ones(vector.action_space.shape, np.float32)
    vector.step(actions)
    vector.reset(options={"reset_mask": np.array([True, False])})
    returns, lengths, ended, over = np.zeros(2), np.zeros(2, int), 0, np.zeros(2, bool)
    # the second has made a step: its reward is not known here, and its first episode not summed
    first = np.array([False, True])
    for _ in range(7):
        begins = over & (mode is AutoresetMode.NEXT_STEP)
        _, rewards, over, _, infos = vector.step(actions)
        returns, lengths = returns + np.where(begins, 0, rewards), lengths + ~begins
        for k in np.flatnonzero(over):
            said = infos["episode"]
            assert infos["_episode"][k]
            assert said["l"][k] == lengths[k] + first[k] == 2
            if not first[k]:
                assert said["r"][k] == pytest.approx(returns[k])
            returns[k], lengths[k], first[k], ended = 0, 0, False, ended + 1
        if mode is AutoresetMode.DISABLED and over.any():
            vector.reset(options={"reset_mask": over})
    assert ended >= 4


@pytest.mark.parametrize("mode", AutoresetMode)
def test_infos_as_a_list_are_those_of_each(mode):
    for together, each in zip(
        out_of_step(ours(mode)),
        out_of_step(vector_wrappers.DictInfoToList(ours(mode))),
        strict=True,
    ):
        assert [set(one) for one in each] == [
            {key for key in together if not key.startswith("_") and together[f"_{key}"][k]}
            for k in range(2)
        ]
        for k, one in enumerate(each):
            for key in one.keys() - {"final_info"}:
                np.testing.assert_array_equal(one[key], together[key][k])


@SINCE_GYMNASIUM_1_1
@pytest.mark.parametrize("mode", AutoresetMode)
def test_everything_becomes_a_tensor(mode):
    """Also last observations with "SameStep"; those of Gymnasium's own are arrays of objects."""
    pytest.importorskip("array_api_compat", reason="Gymnasium's NumpyToTorch needs it")
    vector = vector_wrappers.NumpyToTorch(ours(mode))
    observations, infos = vector.reset(seed=3)
    ended = 0
    for _ in range(5):
        actions = torch.ones(vector.action_space.shape)
        observations, rewards, over, _, infos = vector.step(actions)
        assert observations.shape == vector.observation_space.shape
        assert all(isinstance(value, torch.Tensor) for value in (observations, rewards, over))
        assert isinstance(infos["selected"], torch.Tensor)
        ended += int(over.sum())
        if mode is AutoresetMode.DISABLED and over.any():
            vector.reset(options={"reset_mask": over.numpy()})
    assert ended >= 2


# --- environment checkers -------------------------------------------------------------------------


def skipping(indices):
    return np.where(indices % 2 == 0, UNKNOWN, 0)


@pytest.mark.parametrize(
    "task",
    [
        {"budget": 12},  # the first query is the last, and shorter: its end is NaN
        {"initial_size": 0, "budget": 20},
        {"initial_set": "typical", "initial_size": 5},
        {"skip_cost": 0.5, "annotator": Clerk(skipping)},
    ],
)
def test_both_checkers_take_every_kind_of_episode(dataset, task):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(dataset, HEAD, **task), skip_render_check=True)  # that takes registered ones
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sb3.check_env(make(dataset, HEAD, **task))
    assert len(caught) == 2  # see tests/test_envs_registry.py
