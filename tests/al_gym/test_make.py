"""What ``gymnasium.make`` makes of keywords: vectors, windows, specs that JSON can hold."""

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from PIL import Image
from stable_baselines3.common.env_checker import check_env

import al_gym
from al_gym.wrappers import ContextObservation

ID = "ActiveLearning-Folder-v0"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("images")
    for i in range(40):
        folder = root / ("dark", "light")[i % 2]
        folder.mkdir(exist_ok=True)
        pixels = rng.integers(0, 100, (12, 12)) + 100 * (i % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
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
def test_windows_are_for_one(settings, mode):
    how = {"num_envs": 2, "vectorization_mode": "vector_entry_point"}
    with pytest.raises(ValueError, match="render_mode must be one of"):
        gym.make_vec(ID, render_mode=mode, **how, **settings)


@pytest.mark.parametrize("mode", ["rgb_array_list", "ansi_list"])
def test_all_pictures_since_the_last_call(settings, mode):
    env = gym.make(ID, render_mode=mode, **settings)
    trajectory(env, 2)
    shown = env.render()
    assert len(shown) == 3 and all(isinstance(each, type(shown[0])) for each in shown)
    assert len({str(each) for each in shown}) == 3 if mode == "ansi_list" else shown[0].ndim == 3
    assert env.render() == []


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


def test_the_spec_of_several(settings):
    envs = gym.make_vec(
        ID, num_envs=2, vectorization_mode="vector_entry_point",
        **{**settings, "root": Path(settings["root"])},
    )  # fmt: skip
    assert json.loads(envs.spec.to_json())["kwargs"]["root"] == settings["root"]
    again = gym.make_vec(envs.spec)
    assert again.num_envs == 2 and again.observation_space == envs.observation_space


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
        assert envs.metadata["autoreset_mode"] is gym.vector.AutoresetMode.DISABLED


@pytest.mark.parametrize("keyword", ["wrappers", "vector_kwargs", "vectorization_mode"])
def test_keywords_of_make_vec_say_where_they_belong(settings, keyword):
    with pytest.raises(TypeError, match=rf"unexpected keyword argument '{keyword}'.*make_vec"):
        gym.make(ID, **{keyword: ()}, **settings)
