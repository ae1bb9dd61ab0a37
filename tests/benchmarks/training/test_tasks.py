"""Tasks to train policies on: groups apart, equal sizes, episodes as the environment's own."""

import dataclasses

import numpy as np
import pytest
import torch

from agents import strategies
from agents.transfer import CoveragePolicy, TransferPolicy
from al_gym.data.dataset import ImageDataset
from benchmarks.matrix.presets import PRESETS
from benchmarks.training import families, tasks
from benchmarks.training.families import Features


@pytest.fixture(scope="module")
def features() -> Features:
    """600 samples of three unequal classes, told by their features, three to a group."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2], [400, 150, 50]))
    values = rng.normal(0, 1, (600, 8)) + 1.5 * np.eye(8)[labels]
    groups = np.arange(600) // 3
    return Features(torch.from_numpy(values).float(), labels, groups, "made")


def draw(features, key, n_starts=2):
    return tasks.draw_task("made", (features,), n_starts, np.random.default_rng(key))


@pytest.mark.parametrize("key", range(12))
def test_a_task_keeps_groups_apart_and_sizes_equal(features, key):
    task = draw(features, key, 3)
    assert len(set(task.seeds)) == 3 and min(task.seeds) >= 2**32
    counts = []
    for train, validation in zip(task.train, task.validation, strict=True):
        assert not set(features.groups[train]) & set(features.groups[validation])
        assert len(set(train)) == len(train) and len(set(validation)) == len(validation)
        assert (task.labels[np.concatenate([train, validation])] >= 0).all()
        assert (np.diff(task.labels[validation]) >= 0).all()
        counts.append(np.bincount(task.labels[train], minlength=task.n_classes).tolist())
        assert min(counts[-1]) >= tasks.FEWEST
    assert counts[0] == counts[1] == counts[2]


def test_tasks_differ_and_a_key_decides_them(features):
    drawn = [draw(features, key) for key in range(40)]
    assert {task.n_classes for task in drawn} == {2, 3}
    assert {1, 10} < {task.config.query_size for task in drawn} <= {*range(1, 11)}
    assert 0 < np.mean([task.config.label_noise > 0 for task in drawn]) < 0.6
    again = draw(features, 7)
    assert again.config == drawn[7].config and again.seeds == drawn[7].seeds
    np.testing.assert_array_equal(again.train[1], drawn[7].train[1])


def test_tasks_begin_with_few_labels_or_none_and_others_go_on(features):
    begins, ends = [], []
    for key in range(60):
        task = draw(features, key, 1)
        episodes = tasks.Episodes(task, features, [0], {})
        pool = episodes.envs[0].run.episode.pool
        counts = np.bincount(pool.labels, minlength=task.n_classes)
        begins.append(len(pool.labels) / task.n_classes)
        assert begins[-1] in (0, 1) or begins[-1] > 4
        assert begins[-1] == 0 or (counts >= 1).all()
        ends.append(task.config.budget / task.n_classes)
        n_queries = (task.config.budget - len(pool.labels)) / task.config.query_size
        assert 1 < n_queries <= 25 and task.config.budget <= 0.4 * len(task.train[0]) + 1
        if begins[-1] <= 1:
            assert ends[-1] <= tasks.FEW_PER_CLASS
    begins = np.array(begins)
    shares = [(begins == 0).mean(), (begins == 1).mean(), (begins > 4).mean()]
    assert min(shares) > 0.03 and shares[1] > 0.3 and shares[2] > 0.2


def test_a_task_is_of_one_of_several_draws(features):
    others = dataclasses.replace(features, values=features.values + 1)
    rngs = [np.random.default_rng(key) for key in range(20)]
    found = [tasks.draw_task("made", (features, others), 1, rng).draw for rng in rngs]
    assert {*found} == {0, 1}


def test_a_family_whose_rarest_class_is_too_rare_does_without_it(features):
    labels = features.labels.copy()
    labels[np.flatnonzero(labels == 2)[10:]] = 0
    drawn = [draw(dataclasses.replace(features, labels=labels), key, 1) for key in range(5)]
    assert {task.n_classes for task in drawn} == {2}


def test_episodes_are_those_of_single_environments(features):
    """The same policy on the same start, alone and beside others."""
    task = draw(features, 1)
    ms, other = TransferPolicy(), CoveragePolicy.of({"coverage, far": 1.0}, embeddings=True)
    together = tasks.play(task, features, [ms, other], ("aulc", "loss", "eq3"))
    assert together.shape == (3, 2, 2)
    for start in (0, 1):
        episodes = tasks.Episodes(task, features, [start], {})
        (env,) = episodes.envs
        rewards, scores = [], []
        while not env.run.is_over:
            observation = env.run.episode.softmax
            action, _ = strategies.make("ms", query_size=1, seed=0).predict(observation)
            _, reward, _, _, info = env.step(action)
            rewards.append(reward)
            scores.append(info["macro_f1"])
        np.testing.assert_allclose(together[0, 0, start], np.mean(scores), atol=1e-5)
        np.testing.assert_allclose(together[2, 0, start], np.mean(rewards), atol=1e-5)
    assert (together[:, 0] != together[:, 1]).any()


def test_too_few_images_for_two_sides_are_an_error(features):
    one_group = np.where(features.labels == 0, 0, features.groups)  # all of a class on one side
    with pytest.raises(ValueError, match=r"6 images of every class on both sides, of \[400, "):
        draw(dataclasses.replace(features, groups=one_group), 1)


def test_training_features_hold_nothing_of_the_test_side(tmp_path, monkeypatch):
    """Images of the test side are spoiled: the features stay as they are."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 3, 28, 28), dtype=np.uint8)

    def dataset(spoiled):
        changed = images.copy()
        changed[20:] = 255 if spoiled else changed[20:]
        return ImageDataset(
            changed, np.arange(30) % 5, tuple("abcde"), np.arange(30), np.arange(20),
            np.arange(20, 30), "MedMNIST retinamnist, made",
        )  # fmt: skip

    kept = []
    for spoiled in (False, True):
        family = families.FAMILIES["retinamnist"]
        fake = dataclasses.replace(family, draws=(lambda _, s=spoiled: dataset(s),))
        monkeypatch.setitem(families.FAMILIES, "retinamnist", fake)
        kept += families.training_features("retinamnist", tmp_path)
    assert kept[0].values.shape == (20, 20) and len(kept[0].labels) == 20
    assert torch.equal(kept[0].values, kept[1].values)


def test_families_are_told_by_the_source_of_a_data_set():
    assert families.family_of("chestCT, /somewhere") == "chestct"
    assert families.family_of("MedMNIST bccd_cells_48, /somewhere.npz") == "bloodcells"
    assert families.family_of("Folder, /somewhere") is None
    assert families.family_of("MedMNIST organmnist3d, x") is None
    assert families.family_of("MedMNIST wbc_64, x") == "wbc"
    assert families.KINDS == ("blood", "fundus", "radiology")


@pytest.mark.parametrize("name", families.FAMILIES)
def test_families_are_tested_in_experiments_of_their_own_images(name):
    family = families.FAMILIES[name]
    preset = PRESETS[family.preset]
    assert family.source.startswith(preset.dataset)
    assert family.source.endswith(preset.settings.get("flag", preset.dataset))
    classifier = {key: preset.settings[key] for key in ("optimizer", "weight_decay")}
    assert classifier == {"optimizer": "newton", "weight_decay": tasks.CLASSIFIER.weight_decay}


def test_the_real_files_are_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no retinamnist\.npz in"):
        families.training_features("retinamnist", tmp_path)


def test_blood_cells_are_grouped_by_their_photographs(medmnist_root):
    dataset = families.FAMILIES["bloodcells"].draws[0](medmnist_root.parent)
    n_groups = len(np.unique(dataset.groups[dataset.train]))
    assert n_groups < len(dataset.train) / 5
