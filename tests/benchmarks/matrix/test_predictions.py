"""What was predicted of the test images: to the byte, and read back."""

from dataclasses import replace

import numpy as np
import pytest

from al_gym import ActiveLearningEnv, EnvConfig
from benchmarks.matrix import layout, predictions
from benchmarks.matrix.recorder import Recorder
from tests.samples import FAST, make_dataset

LABELS = np.array([0, 2, 1, 1], np.uint8)
TRUTH = predictions.Truth(LABELS, np.array([0, 1, 1, 0], np.int32))


def row(*classes):
    return np.array(classes, np.uint8)


def test_rows_are_read_as_they_were_written(tmp_path):
    writer = predictions.Writer(tmp_path, TRUTH)
    writer.begin()
    for classes in ((0, 0, 0, 0), (0, 2, 1, 0), (2, 1, 2, 0)):
        writer.append(row(*classes))
    assert (tmp_path / layout.PREDICTIONS).read_bytes() == bytes([0] * 4 + [0, 2, 1, 0, 2, 1, 2, 0])
    found = predictions.read(tmp_path, 3)
    assert found.of_lines(np.array([2, 0])).tolist() == [[2, 1, 2, 0], [0] * 4]
    assert found.truth.is_of(TRUTH)
    assert not found.truth.is_of(replace(TRUTH, groups=np.arange(4, dtype=np.int32)))
    assert predictions.read(tmp_path, 4) is None  # of another curve


def test_going_on_cuts_what_is_too_much_and_does_without_what_is_too_little(tmp_path):
    writer = predictions.Writer(tmp_path, TRUTH)
    writer.append(row(0, 0, 0, 0))  # nothing was begun
    assert predictions.read(tmp_path, 0) is None
    writer.begin()
    for n in range(3):
        writer.append(row(n, n, n, n))
    again = predictions.Writer(tmp_path, TRUTH)
    again.go_on(2)
    again.append(row(2, 0, 0, 0))
    assert predictions.read(tmp_path, 3).of_lines(np.arange(3))[:, 0].tolist() == [0, 1, 2]
    lost = predictions.Writer(tmp_path, TRUTH)
    lost.go_on(4)
    lost.append(row(0, 0, 0, 0))
    assert not (tmp_path / layout.PREDICTIONS).exists()


def test_groups_are_numbered_and_many_classes_take_two_bytes():
    images = make_dataset(n_test=4)
    groups = images.groups.astype(str)
    groups[-4:] = ["b", "a", "c", "a"]
    named = replace(images, groups=groups)
    truth = predictions.Truth.of(named)
    assert truth.groups.tolist() == [1, 0, 2, 0] and truth.groups.dtype == np.int32
    assert truth.labels.tolist() == images.labels[-4:].tolist() and truth.labels.dtype == np.uint8
    many = replace(images, class_names=tuple(map(str, range(257))))
    assert predictions.Truth.of(many).labels.dtype == np.int16


@pytest.mark.parametrize("one_point", [False, True])
def test_every_line_of_a_curve_has_its_row(tmp_path, one_point):
    """With a look at the test images at every other step; and of ALL, its one."""
    images = make_dataset()
    env = ActiveLearningEnv(images, EnvConfig(initial_fraction=0.1, eval_every=2), FAST)
    folder = tmp_path / "ms" / "seed0"
    folder.mkdir(parents=True)
    recorder = Recorder(env, {"retrain_at": []}, folder, one_point)
    recorder.reset(seed=0)
    for _ in range(0 if one_point else 3):
        recorder.step(np.linspace(0, 1, *env.action_space.shape))
    lines = (folder / layout.CURVE).read_text().splitlines()
    accuracy = [float(line.split(",")[4]) for line in lines[1:]]
    found = predictions.read(folder, len(accuracy)).of_lines(np.arange(len(accuracy)))
    labels = images.labels[images.test]
    np.testing.assert_allclose((found == labels).mean(axis=1), accuracy, atol=1e-6)
    if one_point:
        assert accuracy[0] > (env.run.episode.test.predicted == labels).mean()
    else:
        assert (found[0] == found[1]).all() and (found[2] == found[3]).all()
