"""Gymnasium's own checkers, wrappers and vector environments."""

import inspect
import warnings

import gymnasium as gym
import numpy as np
import pytest

from tests.clients.tasks import N_CLASSES, N_POOL, N_STEPS, actions, make, maker, walk

pytestmark = pytest.mark.slow


def test_checkers():
    """`check_env`, `data_equivalence` of two episodes, a spec through JSON and back."""
    from gymnasium.utils.env_checker import check_env, data_equivalence

    env = make(render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    one, other = (walk(each, actions(N_STEPS)) for each in (env, again))
    assert data_equivalence(one.observations, other.observations)
    np.testing.assert_equal(one.infos, other.infos)  # NaN, after reset, is equal to NaN
    assert one.rewards == other.rewards


def test_its_own_test_functions():
    """The functions of `gymnasium.utils.env_checker` and `passive_env_checker`, one by one."""
    from gymnasium.utils import env_checker, passive_env_checker

    takes_env = [
        function
        for name, function in inspect.getmembers(env_checker, inspect.isfunction)
        if name.startswith("check_") and list(inspect.signature(function).parameters) == ["env"]
    ]
    assert len(takes_env) >= 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for function in takes_env:
            function(make(disable_env_checker=True).unwrapped)
        env = make(render_mode="ansi").unwrapped
        passive_env_checker.check_observation_space(env.observation_space)
        passive_env_checker.check_action_space(env.action_space)
        observation, _ = passive_env_checker.env_reset_passive_checker(env, seed=0)
        passive_env_checker.check_obs(observation, env.observation_space, "reset")
        passive_env_checker.env_step_passive_checker(env, actions(1)[0])
        assert isinstance(passive_env_checker.env_render_passive_checker(env), str)


def test_wrappers():
    """Wrappers for statistics, time limit, observations, actions, rewards, autoreset, pictures."""
    from gymnasium import wrappers

    bare = walk(make(), actions(N_STEPS))
    env = wrappers.RecordEpisodeStatistics(wrappers.FlattenObservation(make()))
    env = wrappers.DtypeObservation(wrappers.TimeLimit(env, 100), np.float64)
    seen = walk(env, actions(N_STEPS))
    for one, other in zip(bare.observations, seen.observations, strict=True):
        np.testing.assert_array_equal(one.ravel(), other)
        assert other.dtype == np.float64
    assert seen.infos[-1]["episode"]["l"] == N_STEPS
    assert seen.infos[-1]["episode"]["r"] == pytest.approx(sum(bare.rewards))
    low, high = np.full(N_POOL, -1, np.float32), np.full(N_POOL, 1, np.float32)
    scaled = wrappers.RescaleAction(make(), low, high)
    assert walk(scaled, 2 * actions(N_STEPS) - 1).rewards == pytest.approx(bare.rewards)
    clipped = wrappers.ClipReward(make(), max_reward=1e-3)
    assert walk(clipped, actions(N_STEPS)).rewards == np.minimum(bare.rewards, 1e-3).tolist()
    again = wrappers.Autoreset(make())
    again.reset(seed=0)
    for action in actions(N_STEPS):
        *_, terminated, _, _ = again.step(action)
    assert terminated
    observation, _, terminated, _, info = again.step(actions(1)[0])
    assert not terminated and (info["selected"] == -1).all()
    np.testing.assert_array_equal(observation, bare.observations[0])
    collected = wrappers.RenderCollection(make(render_mode="rgb_array"))
    walk(collected, actions(2))
    assert len({frame.shape for frame in collected.render()}) == 1


def test_async_vector_env():
    """`AsyncVectorEnv` by fork and spawn with episodes out of step, against `SyncVectorEnv`."""
    makers = [maker(), maker(budget=12)]
    both = np.stack([actions(7), actions(7, seed=1)], axis=1)

    def seen(vector):
        shown = [vector.reset(seed=[0, 1])]
        shown += [vector.step(each) for each in both]
        vector.close()
        return shown

    expected = seen(gym.vector.SyncVectorEnv(makers))
    lengths = np.stack([each[2] for each in expected[1:]])
    assert lengths[:, 0].tolist() != lengths[:, 1].tolist() and lengths.any(axis=0).all()
    for context in ("fork", "spawn"):
        shown = seen(gym.vector.AsyncVectorEnv(makers, context=context))
        for one, other in zip(expected, shown, strict=True):
            for a, b in zip(one[:-1], other[:-1], strict=True):
                np.testing.assert_array_equal(a, b)
            assert one[-1].keys() == other[-1].keys()
            for key, value in one[-1].items():
                np.testing.assert_array_equal(value, other[-1][key], err_msg=key)


def test_make_vec():
    """`make_vec` with all three kinds of vectorization, and the vector wrappers upon ours."""
    one = walk(make(), actions(N_STEPS), seed=5)
    for mode in ("sync", "async", "vector_entry_point"):
        settings = maker().keywords
        envs = gym.make_vec(*maker().args, 2, mode, **settings)
        observations, _ = envs.reset(seed=5)
        assert observations.shape == (2, N_POOL, N_CLASSES)
        np.testing.assert_allclose(observations[0], one.observations[0], atol=1e-6)
        for action, reward, expected in zip(
            actions(N_STEPS), one.rewards, one.observations[1:], strict=True
        ):
            observations, rewards, *_ = envs.step(np.stack([action, action]))
            np.testing.assert_allclose(observations[0], expected, atol=1e-5)
            assert rewards[0] == pytest.approx(reward, abs=1e-5)
        envs.close()
    envs = gym.make_vec(*maker().args, 2, "vector_entry_point", **maker().keywords)
    envs = gym.wrappers.vector.RecordEpisodeStatistics(gym.wrappers.vector.FlattenObservation(envs))
    assert envs.reset(seed=5)[0].shape == (2, N_POOL * N_CLASSES)
    for action in actions(N_STEPS):
        *_, terminated, _, infos = envs.step(np.stack([action, action]))
    assert terminated.all() and infos["episode"]["l"].tolist() == [N_STEPS, N_STEPS]
    assert infos["episode"]["r"][0] == pytest.approx(sum(one.rewards), abs=1e-4)
