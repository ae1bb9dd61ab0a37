"""What an environment shows beyond ``gymnasium.Env``: as little as this, held here.

And Gymnasium's own functions for whoever writes an environment, called as they are shipped.
"""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils import env_checker, performance
from gymnasium.utils.env_match import check_environments_match

from al_gym import ActiveLearningEnv, ActiveLearningVectorEnv
from al_gym.vector import AutoresetMode
from al_gym.wrappers import ContextObservation
from tests.al_gym.episodes import make
from tests.samples import FAST, SINCE_GYMNASIUM_1_1, make_dataset

RUN = {
    # the settings and the data
    "task", "dataset", "config", "classifier_config", "n_training", "n_features",
    # the episode
    "episode", "selected_names", "start", "has_begun", "is_over", "rng", "counters",
    "start_fingerprint", "keep_predictions", "keeps_predictions",
    # what the classifier makes of images, and of other labelled sets
    "embed", "predict", "correct", "predict_with_dropout", "evaluate_retrained", "fully_labelled",
    "evaluate_fully_supervised", "online_gradient_steps", "retraining_passes",
    # going on in another process
    "state_dict", "last_layer", "load_state_dict",
    # for the loop
    "k", "classifiers", "annotator", "own_annotator", "draw_start_seed", "draw_initial_set",
    "initial_labels", "begin_episode", "running_episode", "select", "annotate", "test_images_due",
    "adopt", "built_in_annotator", "way_back",
}  # fmt: skip


def public(thing, base=object):
    return {name for name in dir(thing) if not name.startswith("_")} - set(dir(base))


def test_the_environment_has_a_few_names_more_than_gymnasiums():
    env = ActiveLearningEnv(make_dataset(), classifier_config=FAST)
    assert public(env, gym.Env) - {"action_space", "observation_space"} == {
        "max_steps", "query_size", "selected_names", "run", "of",
    }  # fmt: skip


def test_the_vector_environment_too():
    envs = ActiveLearningVectorEnv(2, make_dataset(), classifier_config=FAST)
    spaces = {name for name in dir(envs) if name.endswith("_space")}
    more = public(envs, gym.vector.VectorEnv) - spaces - {"num_envs"}
    assert more == {"max_steps", "envs", "loop", "get_attr", "call"}


def test_a_run_has_what_is_documented():
    env = ActiveLearningEnv(make_dataset(), classifier_config=FAST)
    assert public(env.run) == RUN
    assert all(getattr(type(env.run), name).__doc__ for name in RUN & set(dir(type(env.run))))


# --- Gymnasium's functions ------------------------------------------------------------------------


KEYS = {"info_comparison": "keys-equivalence"}
"""To the function NaN, of ``sample_rewards`` after a reset, is not equal to NaN."""


HEAD = replace(FAST, trainable="head")


def small(render_mode=None):
    return make(make_dataset(), HEAD, render_mode=render_mode, budget=0.3)


def test_environments_match_to_the_last_picture():
    one, other = (make(make_dataset(), HEAD, render_mode="rgb_array", budget=0.2) for _ in range(2))
    check_environments_match(one, other, num_steps=2, seed=1, **KEYS)


def test_wrapped_ones_match_but_for_what_is_wrapped():
    flat = gym.wrappers.FlattenObservation(small())
    check_environments_match(small(), flat, num_steps=4, skip_obs=True, **KEYS)
    with pytest.raises(AssertionError):
        check_environments_match(small(), flat, num_steps=4, **KEYS)


def test_one_of_several_matches_a_single_one():
    single, several = small(), ActiveLearningVectorEnv(2, make_dataset(), single_task(), HEAD)
    check_environments_match(single, several.envs[1], num_steps=4, **KEYS)


def single_task():
    return small().run.config


@pytest.mark.parametrize("wrapped", [gym.wrappers.FlattenObservation, ContextObservation])
@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
def test_the_checker_takes_what_is_wrapped(wrapped):
    env_checker.check_env(wrapped(small()), skip_render_check=True)


def after_a_step(env):
    env.reset(seed=0)
    return env.step(np.ones(env.action_space.shape))[4]


def test_equal_infos_are_equal_to_the_checker():
    one, other = after_a_step(small()), after_a_step(small())
    assert env_checker.data_equivalence(one, other, exact=True)
    other["n_labelled"] += 1
    assert not env_checker.data_equivalence(one, other)


def test_their_clocks_run():
    env = small("ansi")
    assert performance.benchmark_step(env, target_duration=0, seed=0) > 0
    assert performance.benchmark_render(env, target_duration=0) > 0
    assert performance.benchmark_init(small, target_duration=0, seed=0) > 0


@SINCE_GYMNASIUM_1_1
@pytest.mark.parametrize("mode", AutoresetMode)
def test_their_clock_for_several_runs_over_the_end_of_episodes(mode, monkeypatch):
    envs = ActiveLearningVectorEnv(2, make_dataset(), single_task(), HEAD, autoreset_mode=mode)
    ticks = iter(range(100))
    monkeypatch.setattr(performance.time, "time", lambda: next(ticks))
    n_steps = envs.max_steps + 3
    rate = performance.benchmark_vector_step(envs, target_duration=n_steps - 0.5, seed=0)
    lost = 2 if mode is AutoresetMode.NEXT_STEP else 0
    assert rate * n_steps == pytest.approx(2 * n_steps - lost)
