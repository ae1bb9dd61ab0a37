"""MedMNIST files: the real RetinaMNIST, made-up ones, and those to refuse."""

import builtins

import numpy as np
import pytest

from al_gym.data import medmnist

SIZES = {"train": 12, "val": 4, "test": 6}


def write(folder, flag, shape, n_classes=3, **changes):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in SIZES.items():
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(n) % n_classes)[:, None].astype(np.uint8)
    arrays.update(changes)
    np.savez(folder / f"{flag}.npz", **arrays)
    return arrays


def test_retinamnist(medmnist_root):
    dataset = medmnist.load(medmnist_root, flag="retinamnist")
    assert dataset.images.shape == (1480, 3, 28, 28)
    assert np.bincount(dataset.labels[dataset.train]).tolist() == [486, 128, 206, 194, 66]
    assert np.bincount(dataset.labels[dataset.test]).tolist() == [174, 46, 92, 68, 20]


@pytest.mark.parametrize(
    ("shape", "expected", "axes"),  # axes of an image of the file in the order (C, [D,] H, W)
    [
        ((28, 20), (1, 28, 20), None),
        ((28, 20, 1), (1, 28, 20), (2, 0, 1)),
        ((1, 28, 20), (1, 28, 20), (0, 1, 2)),
        ((28, 20, 3), (3, 28, 20), (2, 0, 1)),
        ((3, 28, 20), (3, 28, 20), (0, 1, 2)),
        ((4, 28, 3), (3, 4, 28), (2, 0, 1)),
        ((28, 20, 24), (1, 28, 20, 24), None),
        ((4, 28, 20), (1, 4, 28, 20), None),
        ((2, 28, 20), (1, 2, 28, 20), None),
        ((8, 10, 12, 1), (1, 8, 10, 12), (3, 0, 1, 2)),
        ((8, 10, 12, 3), (3, 8, 10, 12), (3, 0, 1, 2)),
        ((1, 8, 10, 12), (1, 8, 10, 12), (0, 1, 2, 3)),
        ((3, 8, 10, 12), (3, 8, 10, 12), (0, 1, 2, 3)),
    ],
)
def test_every_kind_of_image(tmp_path, shape, expected, axes):
    arrays = write(tmp_path, "somemnist", shape)
    dataset = medmnist.load(tmp_path, flag="somemnist")
    assert dataset.images.shape[1:] == expected and dataset.images.flags.c_contiguous
    image = arrays["test_images"][2]
    image = image[None] if axes is None else image.transpose(axes)
    np.testing.assert_array_equal(dataset.images[dataset.test[2]], image)
    np.testing.assert_array_equal(dataset.labels[dataset.test], arrays["test_labels"][:, 0])


def test_opaque_alpha_is_dropped_and_transparency_refused():
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 9, 4), dtype=np.uint8)
    with pytest.raises(ValueError, match="x has transparent pixels"):
        medmnist.channels_first("x", images)
    images[..., 3] = 255
    expected = images[..., :3].transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(medmnist.channels_first("x", images), expected)


@pytest.mark.parametrize(
    ("shape", "readings"),
    [
        ((5, 3, 28, 3), "3 channels after N, or 3 at the end"),
        ((5, 3, 3, 3), "3 channels after N, or 3 at the end"),
        ((5, 1, 28, 1), "1 channels after N, or 1 at the end"),
        ((5, 1, 28, 3), "1 channels after N, or 3 at the end"),
        ((5, 3, 28, 4), "3 channels after N, or 4 at the end"),
        ((5, 1, 8, 8, 3), "1 channels after N, or 3 at the end"),
    ],
)
def test_shapes_of_two_readings_are_refused(shape, readings):
    with pytest.raises(ValueError, match=rf"x \(5, .* could be {readings}"):
        medmnist.channels_first("x", np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    "shape", [(5,), (5, 28), (5, 8, 8, 8, 2), (5, 8, 8, 8, 4), (5, 1, 8, 8, 8, 1)]
)
def test_shapes_without_a_reading_are_refused(shape):
    with pytest.raises(ValueError, match=r"x must be uint8 .* not uint8 \(5,"):
        medmnist.channels_first("x", np.zeros(shape, np.uint8))


def test_every_image_has_the_name_of_its_place_in_the_file(tmp_path):
    write(tmp_path, "somemnist", (28, 28))
    names = medmnist.load(tmp_path, flag="somemnist", validation=True).names
    assert names[0] == "somemnist.npz, train 0" and names[11] == "somemnist.npz, train 11"
    assert names[12] == "somemnist.npz, test 0" and names[18] == "somemnist.npz, val 0"
    assert len(set(names)) == 22


def test_the_validation_split_comes_after_the_others(tmp_path):
    ids = {f"{split}_image_ids": np.arange(n) + 100 * n for split, n in SIZES.items()}
    arrays = write(tmp_path, "somemnist", (28, 28), **ids)
    without = medmnist.load(tmp_path, flag="somemnist")
    dataset = medmnist.load(tmp_path, flag="somemnist", validation=True)
    assert len(without.validation) == 0 and len(without.images) == 18
    assert dataset.validation.tolist() == [18, 19, 20, 21]
    np.testing.assert_array_equal(dataset.images[18:, 0], arrays["val_images"])
    np.testing.assert_array_equal(dataset.labels[18:], arrays["val_labels"][:, 0])
    np.testing.assert_array_equal(dataset.images[:18], without.images)
    assert dataset.train.tolist() == without.train.tolist()
    assert dataset.test.tolist() == without.test.tolist()
    assert len(set(dataset.groups)) == 22


def test_validation_images_that_do_not_fit(tmp_path):
    arrays = write(tmp_path, "lacking", (28, 28))
    del arrays["val_labels"]
    np.savez(tmp_path / "lacking.npz", **arrays)
    with pytest.raises(ValueError, match="no array 'val_labels'"):
        medmnist.load(tmp_path, flag="lacking", validation=True)
    write(tmp_path, "other", (28, 28), val_images=np.zeros((4, 28, 20), np.uint8))
    with pytest.raises(ValueError, match=r"other.npz: images must have one shape in all splits"):
        medmnist.load(tmp_path, flag="other", validation=True)
    ids = {"train_image_ids": np.arange(12), "test_image_ids": np.arange(6) + 20}
    write(tmp_path, "ids", (28, 28), **ids)
    assert len(medmnist.load(tmp_path, flag="ids").labels) == 18
    with pytest.raises(ValueError, match="val_image_ids must all be there"):
        medmnist.load(tmp_path, flag="ids", validation=True)
    write(tmp_path, "shared", (28, 28), **ids, val_image_ids=np.arange(4) + 11)
    with pytest.raises(ValueError, match="training and validation|train and validation"):
        medmnist.load(tmp_path, flag="shared", validation=True)


def test_the_real_validation_split(medmnist_root):
    dataset = medmnist.load(medmnist_root, flag="retinamnist", validation=True)
    assert len(dataset.images) == 1600 and len(dataset.validation) == 120


def test_larger_sizes_have_files_of_their_own(tmp_path):
    write(tmp_path, "somemnist_64", (64, 64))
    assert medmnist.load(tmp_path, flag="somemnist", size=64).images.shape[2:] == (64, 64)


def test_image_ids_are_groups(tmp_path):
    train, test = np.arange(12) // 4 + 20, np.arange(6) // 3 + 7
    write(tmp_path, "grouped", (28, 28), train_image_ids=train, test_image_ids=test)
    dataset = medmnist.load(tmp_path, flag="grouped")
    assert dataset.groups.tolist() == [2] * 4 + [3] * 4 + [4] * 4 + [0] * 3 + [1] * 3


def test_without_image_ids_every_image_is_a_group(tmp_path):
    write(tmp_path, "somemnist", (28, 28))
    assert medmnist.load(tmp_path, flag="somemnist").groups.tolist() == list(range(18))


def test_pickled_objects_are_refused(tmp_path):
    write(tmp_path, "evil", (28, 28), train_labels=np.array([print] * 12, object))
    with pytest.raises(ValueError, match=r"evil.npz cannot be used: .*pickle"):
        medmnist.load(tmp_path, flag="evil")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": np.zeros((12, 14), int)}, "multi-label"),
        ({"train_labels": np.zeros((12, 1))}, "float64"),
        ({"test_labels": np.full((6, 1), -1)}, "its label is not known"),
        ({"test_labels": np.zeros((5, 1), int)}, "labels"),
        ({"train_images": np.zeros((12, 28, 28))}, "must be uint8"),
        ({"train_images": np.zeros((12, 28), np.uint8)}, "must be uint8"),
        (
            {"train_image_ids": np.zeros(12, int)},
            "train_image_ids, test_image_ids must all be there",
        ),
        (
            {"train_image_ids": np.zeros(11, int), "test_image_ids": np.ones(6, int)},
            "the origin of all 12, 6 images",
        ),
        (
            {"train_image_ids": np.zeros(12, int), "test_image_ids": np.zeros(6, int)},
            "on both sides",
        ),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, changes, message):
    write(tmp_path, "bad", (28, 28), **changes)
    with pytest.raises(ValueError, match=message):
        medmnist.load(tmp_path, flag="bad")


def test_files_that_are_none(tmp_path):
    (tmp_path / "text.npz").write_text("not an npz file")
    with pytest.raises(ValueError, match=r"text.npz cannot be used"):
        medmnist.load(tmp_path, flag="text")
    arrays = write(tmp_path, "cut", (28, 28))
    content = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cut.npz cannot be used"):
        medmnist.load(tmp_path, flag="cut")
    np.savez_compressed(tmp_path / "bytes.npz", **arrays)
    content = (tmp_path / "bytes.npz").read_bytes()
    for at in range(60, len(content), len(content) // 40):
        other = bytes([content[at] ^ 0xFF])
        (tmp_path / "bytes.npz").write_bytes(content[:at] + other + content[at + 1 :])
        try:  # most bytes are compressed pixels, without which the file cannot be read
            medmnist.load(tmp_path, flag="bytes")
        except ValueError as error:
            assert "bytes.npz" in str(error)
    del arrays["test_images"]
    np.savez(tmp_path / "lacking.npz", **arrays)
    with pytest.raises(ValueError, match="no array 'test_images'"):
        medmnist.load(tmp_path, flag="lacking")


def test_missing_things_are_named(tmp_path):
    with pytest.raises(ValueError, match="needs flag="):
        medmnist.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"retinamnist.npz.*download=True"):
        medmnist.load(tmp_path, flag="retinamnist")
    for flag in ("../secret", 5.5):
        with pytest.raises(ValueError, match="is no name of a data set"):
            medmnist.load(tmp_path, flag=flag)
    with pytest.raises(ValueError, match="size must be an integer, not '28'"):
        medmnist.load(tmp_path, flag="retinamnist", size="28")


def test_a_link_out_of_the_root_is_refused(tmp_path):
    write(tmp_path, "somemnist", (28, 28))
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "somemnist.npz").symlink_to(tmp_path / "somemnist.npz")
    with pytest.raises(ValueError, match=r"root/somemnist.npz is a link to"):
        medmnist.load(tmp_path / "root", flag="somemnist")


def test_the_real_blood_cells_are_read_like_a_set_of_the_collection(medmnist_root):
    dataset = medmnist.load(medmnist_root.parent / "bccd", flag="bccd_cells", size=48)
    assert dataset.images.shape == (3749, 3, 48, 48) and dataset.files_decoded == 0
    assert np.bincount(dataset.labels[dataset.train]).tolist() == [214, 2381, 209]
    assert len(dataset.test) == 945


def test_download_is_the_packages_business(tmp_path, monkeypatch):
    real = builtins.__import__

    def without_medmnist(name, *args, **kwargs):
        if name == "medmnist":
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_medmnist)
    with pytest.raises(ModuleNotFoundError, match=r"al-gym\[medmnist\]"):
        medmnist.load(tmp_path, flag="retinamnist", download=True)
    write(tmp_path, "present", (28, 28))  # nothing to download: the package is not asked for
    assert len(medmnist.load(tmp_path, flag="present", download=True).labels) == 18
