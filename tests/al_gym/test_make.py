"""What ``gymnasium.make`` makes of keywords: vectors, windows, specs that JSON can hold."""

import copy
import json
import pickle
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.env_checker import check_env

import al_gym
from al_gym.vector import AutoresetMode
from al_gym.wrappers import ContextObservation
from tests.samples import draw_folder

ID = "ActiveLearning-Folder-v0"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    root = draw_folder(tmp_path_factory.mktemp("images"))
    return {
        "root": str(root), "image_size": 12, "pretrain_passes": 1, "query_size": 2,
        "initial_fraction": 0.2, "budget": 0.5,
    }  # fmt: skip


def trajectory(env, n=3):
    observation, info = env.reset(seed=0)
    seen, rewards = [observation], []
    for i in range(n):
        scores = np.random.default_rng(i).random(env.action_space.shape, np.float32)
        observation, reward, *_, info = env.step(scores)
        seen.append(observation)
        rewards.append(reward)
    return np.stack(seen), rewards, info


# --- vectors --------------------------------------------------------------------------------------


def test_a_flat_environment_is_the_same_one_in_a_row(settings):
    plain, flat = gym.make(ID, **settings), gym.make(ID, flatten=True, **settings)
    n_u, n_classes = plain.observation_space.shape
    assert flat.observation_space == gym.spaces.Box(0, 1, (n_u * n_classes,), np.float32)
    (seen, rewards, _), (rows, same, _) = trajectory(plain), trajectory(flat)
    np.testing.assert_array_equal(seen.reshape(len(seen), -1), rows)
    assert rewards == same
    check_env(flat, warn=False)


def test_several_flat_ones(settings):
    envs = gym.make_vec(
        ID, num_envs=2, vectorization_mode="vector_entry_point", flatten=True, **settings
    )
    plain = gym.make_vec(ID, num_envs=2, vectorization_mode="vector_entry_point", **settings)
    observations, _ = envs.reset(seed=0)
    np.testing.assert_array_equal(observations, plain.reset(seed=0)[0].reshape(2, -1))
    assert envs.single_observation_space.shape == observations.shape[1:]


def test_flat_ones_are_not_reset_in_the_same_step_nor_given_a_context(settings):
    how = {"num_envs": 2, "vectorization_mode": "vector_entry_point"}
    with pytest.raises(ValueError, match="flatten=True goes with"):
        gym.make_vec(ID, flatten=True, autoreset_mode="SameStep", **how, **settings)
    with pytest.raises(ValueError, match="do without flatten=True"):
        ContextObservation(gym.make(ID, flatten=True, **settings))


# --- windows --------------------------------------------------------------------------------------


def test_a_window(settings, monkeypatch):
    pytest.importorskip("pygame", reason="the window of render_mode='human' is pygame's")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    import pygame

    env = gym.make(ID, render_mode="human", **settings)
    assert env.render_mode == "human" and "human" in env.metadata["render_modes"]
    env.reset(seed=0)
    before = pygame.surfarray.array3d(pygame.display.get_surface())
    env.step(env.action_space.sample())
    after = pygame.surfarray.array3d(pygame.display.get_surface())
    picture = gym.make(ID, render_mode="rgb_array", **settings)
    picture.reset(seed=0)
    assert after.shape[:2] == picture.render().shape[1::-1]
    assert after.std() > 5 and (before != after).any()
    assert gym.make(env.spec).render_mode == "human"
    env.close()


@pytest.mark.parametrize("mode", ["human", "rgb_array_list"])
def test_windows_are_for_one(settings, mode, monkeypatch):
    how = {"num_envs": 2, "vectorization_mode": "vector_entry_point"}
    monkeypatch.setattr("al_gym.make.importlib.util.find_spec", lambda _: "there")
    with pytest.raises(ValueError, match=f"'{mode}' is of one environment: .*'sync'"):
        gym.make_vec(ID, render_mode=mode, **how, **settings)


def test_without_pygame_a_window_is_refused_before_anything_is_read(monkeypatch):
    monkeypatch.setattr("al_gym.make.importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr("al_gym.make.ingredients", lambda *_: pytest.fail("read"))
    with pytest.raises(gym.error.DependencyNotInstalled, match=r"al-gym\[render\]"):
        gym.make(ID, render_mode="human")


@pytest.mark.parametrize("mode", ["rgb_array_list", "ansi_list"])
def test_all_pictures_since_the_last_call(settings, mode):
    env = gym.make(ID, render_mode=mode, **settings)
    trajectory(env, 2)
    shown = env.render()
    assert len(shown) == 3 and all(isinstance(each, type(shown[0])) for each in shown)
    assert len({str(each) for each in shown}) == 3 if mode == "ansi_list" else shown[0].ndim == 3
    assert env.render() == []


def test_gymnasiums_own_vectors_collect_pictures_of_each(settings):
    envs = gym.make_vec(
        ID, num_envs=2, vectorization_mode="sync", render_mode="rgb_array_list", **settings
    )
    envs.reset(seed=0)
    envs.step(envs.action_space.sample())
    assert [len(pictures) for pictures in envs.render()] == [2, 2]


def test_an_unknown_mode(settings):
    with pytest.raises(ValueError, match="render_mode must be one of"):
        gym.make(ID, render_mode="depth_array", **settings)
    with pytest.raises(ValueError, match="render_mode must be one of"):
        gym.make(ID, render_mode="depth_array_list", **settings)


# --- specs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda env: env,
        ContextObservation,
        gym.wrappers.FlattenObservation,
        lambda env: gym.wrappers.TimeLimit(env, 5),
        lambda env: gym.wrappers.RescaleAction(env, -1, 1),
    ],
)
def test_paths_and_numbers_of_numpys_go_through_json(settings, wrapped):
    given = {
        **settings, "root": Path(settings["root"]), "budget": np.float32(0.5),
        "query_size": np.int64(2),
    }  # fmt: skip
    env = wrapped(gym.make(ID, **given))
    text = env.spec.to_json()
    kept = json.loads(text)["kwargs"]
    assert (kept["root"], kept["budget"], kept["query_size"]) == (settings["root"], 0.5, 2)
    again = gym.make(EnvSpec.from_json(text))
    assert again.observation_space == env.observation_space
    assert trajectory(again)[1] == trajectory(env)[1]


@pytest.mark.parametrize("more", [{"flatten": True}, {"render_mode": "rgb_array_list"}])
def test_what_make_wraps_is_wrapped_once(settings, more):
    env = gym.make(ID, **more, **settings)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert str(again) == str(env)
    assert str(gym.make(env.spec)) == str(env)


def test_settings_in_lists_and_switches_of_numpys_too(settings):
    given = {"class_weights": [np.float32(1), np.float32(2)], "resample_initial": np.bool_(True)}
    env = gym.make(ID, **given, deterministic=np.bool_(True), **settings)
    kept = json.loads(env.spec.to_json())["kwargs"]
    assert kept["class_weights"] == [1.0, 2.0] and kept["resample_initial"] is True
    run = env.get_wrapper_attr("run")
    assert run.config.resample_initial is True and run.classifier_config.deterministic is True
    assert run.classifier_config.class_weights == (1.0, 2.0)


def test_what_wrappers_were_given_is_gymnasiums_to_keep(settings):
    """Ours makes of it what JSON can hold; of Gymnasium's, numbers of NumPy's stay as they are."""
    ours = ContextObservation(gym.make(ID, **settings), embeddings=np.bool_(True))
    assert json.loads(ours.spec.to_json())["additional_wrappers"][-1]["kwargs"] == {
        "embeddings": True,
        "labelled": False,
    }
    theirs = gym.wrappers.RescaleAction(gym.make(ID, **settings), np.float32(-1), np.float32(1))
    with pytest.raises(TypeError, match="float32 is not JSON serializable"):
        theirs.spec.to_json()


@pytest.mark.parametrize("flatten", [False, True])
def test_the_spec_of_several(settings, flatten):
    envs = gym.make_vec(
        ID, num_envs=2, vectorization_mode="vector_entry_point", flatten=flatten,
        autoreset_mode=AutoresetMode.DISABLED,
        **{**settings, "root": Path(settings["root"])},
    )  # fmt: skip
    text = envs.unwrapped.spec.to_json()
    assert json.loads(text)["kwargs"]["root"] == settings["root"]
    again = gym.make_vec(EnvSpec.from_json(text))
    assert again.num_envs == 2 and again.observation_space == envs.observation_space
    assert again.metadata["autoreset_mode"] is AutoresetMode.DISABLED


def test_the_spec_is_copied_and_pickled_with_the_environment(settings):
    env = gym.make(ID, **settings)
    envs = gym.make_vec(ID, num_envs=2, vectorization_mode="vector_entry_point", **settings)
    for each in (env, envs):
        assert each.unwrapped.spec is not None
        assert copy.deepcopy(each).unwrapped.spec == each.unwrapped.spec
        assert pickle.loads(pickle.dumps(each)).unwrapped.spec == each.unwrapped.spec
    flat = gym.make(ID, flatten=True, **settings)
    (seen, *_), (again, *_) = trajectory(flat), trajectory(copy.deepcopy(flat))
    np.testing.assert_array_equal(seen, again)


def test_the_class_has_no_spec():
    assert al_gym.ActiveLearningEnv.spec is None


# --- what goes with which kind of vector ----------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"wrappers": [ContextObservation]}, "Cannot use `vector_entry_point`"),
        ({"vector_kwargs": {"autoreset_mode": "Disabled"}}, "only through kwargs"),
    ],
)
def test_wrappers_and_vector_kwargs_are_for_gymnasiums_own_vectors(settings, more, message):
    with pytest.raises(gym.error.Error, match=message):
        gym.make_vec(ID, num_envs=2, vectorization_mode="vector_entry_point", **more, **settings)
    if "wrappers" in more:
        envs = gym.make_vec(ID, num_envs=2, vectorization_mode="sync", **more, **settings)
        assert isinstance(envs.single_observation_space, gym.spaces.Dict)
    else:
        envs = gym.make_vec(
            ID, num_envs=2, vectorization_mode="vector_entry_point", autoreset_mode="Disabled",
            **settings,
        )  # fmt: skip
        assert envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED


@pytest.mark.parametrize("keyword", ["wrappers", "vector_kwargs", "vectorization_mode"])
def test_keywords_of_make_vec_say_where_they_belong(settings, keyword):
    with pytest.raises(TypeError, match=rf"unexpected keyword argument '{keyword}'.*make_vec"):
        gym.make(ID, **{keyword: ()}, **settings)


@pytest.mark.parametrize("keyword", ["max_episode_steps", "disable_env_checker"])
def test_keywords_of_make_say_with_which_vectors_they_go(settings, keyword):
    more = {keyword: 2, **settings}
    with pytest.raises(TypeError, match=rf"'{keyword}'; .* vectorization_mode='sync'"):
        gym.make_vec(ID, num_envs=2, vectorization_mode="vector_entry_point", **more)
    assert gym.make_vec(ID, num_envs=2, vectorization_mode="sync", **more).num_envs == 2
