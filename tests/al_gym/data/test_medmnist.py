"""MedMNIST files: the real RetinaMNIST, made-up ones, and those to refuse."""

import builtins

import numpy as np
import pytest

from al_gym.data import medmnist


def write(folder, flag, shape, n_classes=3, **changes):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 12), ("val", 4), ("test", 6)):
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
    ("shape", "expected"),
    [((28, 28), (1, 28, 28)), ((28, 28, 3), (3, 28, 28)), ((28, 28, 28), (1, 28, 28, 28))],
)
def test_every_kind_of_image(tmp_path, shape, expected):
    arrays = write(tmp_path, "somemnist", shape)
    dataset = medmnist.load(tmp_path, flag="somemnist")
    assert dataset.images.shape[1:] == expected and dataset.images.flags.c_contiguous
    image = arrays["test_images"][2]
    if shape[-1] == 3:
        image = image.transpose(2, 0, 1)
    np.testing.assert_array_equal(dataset.images[dataset.test[2]].squeeze(), image)
    np.testing.assert_array_equal(dataset.labels[dataset.test], arrays["test_labels"][:, 0])


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
    with pytest.raises(ValueError, match="is no name of a data set"):
        medmnist.load(tmp_path, flag="../secret")


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
