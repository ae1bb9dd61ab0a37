"""What an environment shows beyond ``gymnasium.Env``: as little as this, held here."""

import gymnasium as gym

from al_gym import ActiveLearningEnv, ActiveLearningVectorEnv
from tests.samples import FAST, make_dataset

RUN = {
    # the settings and the data
    "task", "dataset", "config", "classifier_config", "n_training", "n_features",
    # the episode
    "episode", "selected_names", "start", "has_begun", "is_over", "rng", "counters",
    "start_fingerprint",
    # what the classifier makes of images, and of other labelled sets
    "embed", "predict_with_dropout", "evaluate_retrained", "fully_labelled",
    "evaluate_fully_supervised",
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
