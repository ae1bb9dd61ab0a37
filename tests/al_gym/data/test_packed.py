"""Images of one's own in an npz file."""

import numpy as np
import pytest

from al_gym.data import folder
from al_gym.data.dataset import UNKNOWN

LABELS = np.arange(20) % 2
IMAGES = np.random.default_rng(0).integers(0, 50, (20, 8, 8)).astype(np.uint8)
IMAGES += (LABELS * 100).astype(np.uint8)[:, None, None]
NAMES = np.array([f"p{i // 4}_{i}" for i in range(20)])


def save(tmp_path, **arrays):
    path = tmp_path / "images.npz"
    np.savez(path, **{"images": IMAGES, "labels": LABELS, **arrays})
    return path


def test_root_is_the_file_or_its_folder(tmp_path):
    path = save(tmp_path, groups=np.arange(20) // 4)
    for root in (path, str(path), tmp_path):
        dataset = folder.load(root)
        assert (dataset.images[:, 0] == IMAGES).all() and (dataset.labels == LABELS).all()
        assert not set(dataset.groups[dataset.train]) & set(dataset.groups[dataset.test])
        assert dataset.names.tolist() == [str(i) for i in range(20)]


def test_what_else_the_file_may_say(tmp_path):
    labels = LABELS.copy()
    labels[0] = UNKNOWN
    split = np.array(["Train"] * 10 + ["val"] * 4 + ["testing"] * 6)
    dataset = folder.load(save(tmp_path, labels=labels, names=NAMES, split=split))
    assert (dataset.labels == labels).all() and (dataset.names == NAMES).all()
    assert dataset.train.tolist() == [*range(10)]
    assert dataset.validation.tolist() == [*range(10, 14)]
    assert dataset.test.tolist() == [*range(14, 20)]


def test_settings_are_honoured(tmp_path):
    path = save(tmp_path, names=NAMES)
    dataset = folder.load(
        path, window=(0, 51), image_size=(4, 8), group_pattern=r"^(p\d+)", exclude="p4_*"
    )
    assert dataset.images.shape == (16, 1, 4, 8)
    assert (dataset.images[LABELS[:16] == 1] == 255).all()
    bright = IMAGES[0].astype(float) * 5
    expected = bright.reshape(4, 2, 8).mean(1).round()
    np.testing.assert_allclose(dataset.images[0, 0], expected, atol=1)
    assert dataset.groups.tolist() == [name[:2] for name in NAMES[:16]]
    assert folder.load(path, image_size=16).images.shape == (20, 1, 16, 16)


def test_volumes_and_channels(tmp_path):
    volumes = np.repeat(IMAGES[:, None], 5, 1)
    assert folder.load(save(tmp_path, images=volumes)).images.shape == (20, 1, 5, 8, 8)
    colour = np.repeat(IMAGES[..., None], 3, -1)
    assert folder.load(save(tmp_path, images=colour)).images.shape == (20, 3, 8, 8)
    assert folder.load(save(tmp_path, images=colour[..., :1])).images.shape == (20, 1, 8, 8)
    assert folder.load(save(tmp_path, images=volumes), image_size=(4, 4, 4)).images.ndim == 5


def test_copies(tmp_path):
    images = IMAGES.copy()
    images[2] = images[16]
    split = np.array(["train"] * 14 + ["test"] * 6)
    path = save(tmp_path, images=images, split=split)
    (note,) = folder.load(path).notes
    assert "1 training images are copies, to the byte, of test" in note and "2 of 16" in note
    dataset = folder.load(path, duplicates="drop")
    assert "2" not in dataset.names and len(dataset.names) == 19
    assert (dataset.images[2, 0] == IMAGES[3]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group_pattern": "(p)"}, "group_pattern is searched in the array names"),
        ({"exclude": "*_mask"}, "exclude is matched with the array names"),
        ({"labels": "mine.csv"}, "labels is for folders"),
        ({"image_size": (4, 4, 4)}, "image_size .* 2 axes"),
        ({"window": (5, 1)}, "window must be"),
    ],
)
def test_settings_that_cannot_be_honoured_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        folder.load(save(tmp_path), **settings)


def test_groups_are_given_once(tmp_path):
    with pytest.raises(ValueError, match="has groups already: leave group_pattern out"):
        folder.load(save(tmp_path, names=NAMES, groups=LABELS), group_pattern="(p)")


def test_a_file_beside_folders_or_a_csv_could_mean_two_things(tmp_path):
    path = save(tmp_path)
    (tmp_path / "labels.csv").write_text("file,label\n")
    with pytest.raises(ValueError, match="could mean two things: the images in images.npz, or"):
        folder.load(tmp_path)
    assert len(folder.load(path).labels) == 20
    (tmp_path / "labels.csv").unlink()
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="those that a is about"):
        folder.load(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": np.array([{}] * 20)}, "cannot be used: .*pickle"),
        ({"images": np.zeros((20, 8, 8))}, "must be uint8"),
        ({"labels": np.zeros(3, int)}, "labels must be"),
        ({"labels": LABELS * 1.0}, "labels must be"),
        ({"labels": LABELS - 2}, "label -2 of image 0; classes are 0 and up"),
        ({"labels": LABELS * 3}, "labels go up to 3, and no image has the label 1. Number"),
        ({"labels": LABELS + 1}, "labels go up to 2, and no image has the label 0"),
        ({"labels": LABELS * 10**15}, "and no image has the label 1"),
        (
            {"labels": (LABELS - 1).astype(np.uint8)},
            "no image has the label 1.*if 255 was -1, not known, save labels as int64",
        ),
        ({"labels": (LABELS - 1).astype(np.uint64)}, "no image has the label 1.*was -1"),
        ({"patients": LABELS}, "array 'patients' may be the groups.* Rename it to groups"),
        ({"patient_id": LABELS}, "array 'patient_id' may be the groups"),
        ({"validation": LABELS}, "array 'validation' may be the split.* Rename it to split"),
        ({"is_test": LABELS, "value": LABELS}, "array 'is_test' may be the split"),
        ({"groups": np.zeros(3)}, "groups must be"),
        ({"names": np.arange(20)}, r"names must be \(20,\) str"),
        ({"names": np.full(20, "a")}, "'a' stands twice in names"),
        ({"split": np.full(20, "later")}, "split 'later' of image 0; it may be train, "),
    ],
)
def test_bad_arrays(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message):
        folder.load(save(tmp_path, **arrays))


def test_arrays_that_are_not_read_are_said(tmp_path):
    path = save(tmp_path, value=LABELS, groups=np.arange(20), patient=LABELS)
    assert folder.load(path).notes == ("images.npz: arrays that are not read: value, patient",)


def test_labels_as_a_column(tmp_path):
    assert (folder.load(save(tmp_path, labels=LABELS[:, None])).labels == LABELS).all()


def test_what_lies_beside_the_file_is_said(tmp_path):
    save(tmp_path)
    (tmp_path / "readme.txt").write_text("hello")
    assert folder.load(tmp_path).notes == ("beside images.npz, not read: readme.txt",)


def test_a_missing_array(tmp_path):
    np.savez(tmp_path / "images.npz", images=IMAGES)
    with pytest.raises(ValueError, match="no array 'labels'"):
        folder.load(tmp_path)
