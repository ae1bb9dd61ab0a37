"""Every registered id under both environment checkers, and how profiles and keywords are chosen."""

import pickle
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from PIL import Image
from stable_baselines3.common import env_checker as sb3

import envs_registry
from al_gym import make_env

SB3_UNAVOIDABLE = ("unconventional shape", "symmetric and normalized Box action space")


@pytest.fixture(scope="session")
def folder_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    rng = np.random.default_rng(0)
    for name, value in (("cat", 70), ("dog", 180)):
        (root / name).mkdir()
        for i in range(30):
            grey = np.clip(rng.normal(value, 30, (16, 16)), 0, 255).astype(np.uint8)
            Image.fromarray(grey).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def few_of_medmnist(medmnist_root, tmp_path_factory):
    """The first of the real images of every side."""
    root = tmp_path_factory.mktemp("medmnist")
    with np.load(medmnist_root / "retinamnist.npz") as whole:
        np.savez(root / "retinamnist.npz", **{name: whole[name][:60] for name in whole})
    return root


@pytest.fixture(params=list(envs_registry.env_id(name) for name in envs_registry.DATASETS))
def case(request, chestct_root, retinopathy_root, few_of_medmnist, folder_root):
    """Id and keywords of a small environment of every kind."""
    fast = {"pretrain_passes": 2}
    few = {"profile": "embedded", "n_train": 40, "n_test": 20, **fast}
    return request.param, {
        "ActiveLearning-chestCT-v0": {"root": str(chestct_root), **few},
        "ActiveLearning-Retinopathy-v0": {
            "root": str(retinopathy_root), "image_size": 32, **few,
            "split_seed": 2,  # every grade is among the training images
        },
        "ActiveLearning-MedMNIST-v0": {
            "flag": "retinamnist", "root": str(few_of_medmnist), **fast,
        },
        "ActiveLearning-Folder-v0": {"root": str(folder_root), "image_size": 16, **fast},
    }[request.param]  # fmt: skip


def test_gymnasium_finds_nothing_to_say(case):
    env_id, settings = case
    env = gym.make(env_id, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    env.close()


def test_stable_baselines3_says_only_the_unavoidable(case):
    env_id, settings = case
    env = gym.make(env_id, **settings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sb3.check_env(env.unwrapped)
    said = [str(warning.message) for warning in caught]
    assert len(said) == 2
    for text in SB3_UNAVOIDABLE:
        assert any(text in message for message in said), said


def episode(env, seed):
    """Everything that three steps show."""
    rng = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    seen = [observation]
    for _ in range(3):
        observation, reward, terminated, _, info = env.step(
            rng.random(env.action_space.shape, np.float32)
        )
        seen += [observation, reward, terminated, info["macro_f1"], info["selected"]]
    return seen


def test_equal_seeds_show_the_same_to_the_bit_in_two_environments(case):
    env_id, settings = case
    first, second = (episode(gym.make(env_id, **settings), seed=3) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_environment_is_pickled_in_the_middle_of_an_episode(case):
    env_id, settings = case
    env = gym.make(env_id, **settings)
    env.reset(seed=1)
    env.step(np.linspace(0, 1, env.action_space.shape[0], dtype=np.float32))
    again = pickle.loads(pickle.dumps(env))
    action = np.linspace(1, 0, env.action_space.shape[0], dtype=np.float32)
    for one, other in zip(env.step(action)[:4], again.step(action)[:4], strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(episode(env, 2), episode(again, 2), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("mode", ["rgb_array", "ansi"])
def test_every_id_can_be_seen(case, mode):
    env_id, settings = case
    env = gym.make(env_id, render_mode=mode, **settings)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    shown = env.render()
    if mode == "ansi":
        assert "macro F1" in shown
    else:
        assert shown.ndim == 3 and shown.shape[2] == 3 and shown.dtype == np.uint8
        assert shown.std() > 5  # not blank


def test_the_spec_survives_json(case):
    env_id, settings = case
    spec = gym.make(env_id, **settings).spec
    again = gym.make(gym.envs.registration.EnvSpec.from_json(spec.to_json()))
    assert again.observation_space == gym.make(env_id, **settings).observation_space


@pytest.mark.parametrize(
    ("dataset", "n_classes"),
    [("chestCT", 4), pytest.param("Retinopathy", 5, marks=pytest.mark.slow)],
)
def test_the_embedded_profiles_are_of_the_promised_size(dataset, n_classes):
    space = gym.make(envs_registry.env_id(dataset), profile="embedded").observation_space
    assert abs(space.shape[0] - 500) <= 5 and space.shape[1] == n_classes


def test_the_embedded_profile_of_photographs_is_made_from_as_many_as_it_is_told():
    env = make_env(
        "Retinopathy", profile="embedded", n_phantoms=60, n_train=40, n_test=20, split_seed=2
    )
    assert env.run.dataset.images.shape == (60, 3, 64, 64) and "phantoms" in env.run.dataset.source
    settings = envs_registry.profiles("Retinopathy")["embedded"]
    assert abs(settings["n_train"] * (1 - settings["initial_fraction"]) - 500) <= 5


@pytest.mark.parametrize(
    "code",
    [
        "gym.make('al_gym:ActiveLearning-Folder-v0', root='/nowhere')",  # does what the others do
        pytest.param(
            "import al_gym; gym.make('ActiveLearning-Folder-v0', root='/nowhere')",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "import envs_registry; gym.make('ActiveLearning-Folder-v0', root='/nowhere')",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_three_ways_to_reach_the_ids(code):
    result = subprocess.run(
        [sys.executable, "-c", f"import gymnasium as gym; {code}"], capture_output=True, text=True
    )
    assert "FileNotFoundError: Folder: there is no folder /nowhere" in result.stderr


def test_registering_twice_changes_nothing():
    before = dict(gym.registry)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs_registry.register_envs()
    assert dict(gym.registry) == before


# --- profiles -------------------------------------------------------------------------------------


def test_without_data_auto_warns_once_and_falls_back(few_scans):
    with pytest.warns(UserWarning, match="no real data found") as caught:
        env = make_env("chestCT")
    assert len(caught) == 1
    for part in ("AL_GYM_DATA", "root=", "embedded"):
        assert part in str(caught[0].message)
    assert env.run.classifier_config.network == "small3d"


def test_where_the_data_is_found_auto_takes_the_papers_settings(
    chestct_root, tmp_path, monkeypatch
):
    (tmp_path / "chestCT").symlink_to(chestct_root)
    monkeypatch.setenv("AL_GYM_DATA", str(tmp_path))
    for root in (None, chestct_root):
        env = make_env("chestCT", root=root, n_train=40, n_test=20, patch_size=16)
        assert env.run.classifier_config.network == "resnet50_3d"
        assert env.run.classifier_config.learning_rate == 1e-4
        assert (env.run.config.initial_fraction, env.run.config.query_size) == (0.05, 5)
        assert env.run.dataset.images.shape == (60, 2, 16, 16, 16)


def test_the_papers_numbers():
    chestct = envs_registry.profiles("chestCT")["paper"]
    assert (chestct["n_train"], chestct["n_test"], chestct["patch_size"]) == (3500, 3500, 32)
    retinopathy = envs_registry.profiles("Retinopathy")["paper"]
    assert (retinopathy["n_train"], retinopathy["n_test"]) == (2230, 2230)
    assert (retinopathy["initial_fraction"], retinopathy["query_size"]) == (0.10, 1)
    assert (retinopathy["network"], retinopathy["image_size"]) == ("resnet50", 224)
    assert retinopathy["weights"].startswith("IMAGENET1K")
    for paper in (chestct, retinopathy):  # Eq. 1 is a sum
        assert (paper["learning_rate"], paper["loss_reduction"]) == (1e-4, "sum")


def test_the_paper_profile_does_not_fall_back():
    with pytest.raises(FileNotFoundError, match="set AL_GYM_DATA"):
        make_env("chestCT", profile="paper")
    with pytest.raises(FileNotFoundError, match="no folder /nowhere"):
        make_env("chestCT", root="/nowhere")


def test_embedded_with_a_root_reads_that_root(chestct_root):
    env = make_env("chestCT", profile="embedded", root=chestct_root, n_train=40, n_test=20)
    assert str(chestct_root) in env.run.dataset.source
    assert env.run.classifier_config.network == "small3d"


def test_any_keyword_overrides(chestct_root):
    env = make_env(
        "chestCT",
        profile="embedded",
        root=chestct_root,
        n_train=40,
        n_test=20,
        query_size=2,
        budget=0.5,
        momentum=0.5,
        trainable="head",
        margin=2.0,
    )
    assert env.run.config.query_size == 2 and env.run.config.budget == 0.5
    assert (
        env.run.classifier_config.momentum == 0.5 and env.run.classifier_config.trainable == "head"
    )


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"querysize": 2},
            TypeError,
            "keyword argument 'querysize'; did you mean 'query_size'",
        ),
        ({"profile": "papers"}, ValueError, "unknown profile of chestCT 'papers'"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate must lie in"),
    ],
)
def test_bad_keywords_are_named_before_anything_is_read(settings, error, message, monkeypatch):
    monkeypatch.setattr("al_gym.data.chestct.read_annotations", lambda _: pytest.fail("read"))
    with pytest.raises(error, match=message):
        make_env("chestCT", **{"profile": "embedded", **settings})


def test_data_sets_without_a_paper_say_so():
    with pytest.raises(ValueError, match="unknown profile of MedMNIST 'paper'"):
        make_env("MedMNIST", profile="paper", flag="retinamnist")
    with pytest.raises(ValueError, match="unknown data set 'Chest'"):
        make_env("Chest")
