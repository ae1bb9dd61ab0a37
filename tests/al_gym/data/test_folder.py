"""The user's own images: every format, one folder a class, or an npz file."""

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from al_gym.data import folder


def picture(value, size=(20, 24), seed=0):
    rng = np.random.default_rng([value, seed])
    return np.clip(rng.normal(value, 10, size), 0, 255).astype(np.uint8)


@pytest.fixture
def photographs(tmp_path):
    """Two classes of twelve grey PNG files, two a patient."""
    for name, value in (("benign", 60), ("malignant", 190)):
        (tmp_path / name).mkdir()
        for i in range(12):
            Image.fromarray(picture(value, seed=i)).save(
                tmp_path / name / f"p{value}{i // 2}_{i}.png"
            )
    return tmp_path


def test_one_folder_a_class(photographs):
    dataset = folder.load(photographs, image_size=16)
    assert dataset.images.shape == (24, 1, 16, 16)
    assert dataset.class_names == ("benign", "malignant")
    means = dataset.images.mean((1, 2, 3))
    assert (np.abs(means - np.where(dataset.labels == 0, 60, 190)) < 10).all()
    assert len(dataset.test) == 8  # 30 % of twelve, class by class
    assert np.bincount(dataset.labels[dataset.test]).tolist() == [4, 4]


def test_patients_stay_together(photographs):
    dataset = folder.load(photographs, image_size=16, group_pattern=r"p(\d+)_")
    assert len(set(dataset.groups)) == 12
    assert not set(dataset.groups[dataset.train]) & set(dataset.groups[dataset.test])
    with pytest.raises(ValueError, match="finds no group"):
        folder.load(photographs, group_pattern=r"patient(\d+)")


def test_the_split_follows_the_seed(photographs):
    tests = [folder.load(photographs, split_seed=s).test.tolist() for s in (0, 0, 1)]
    assert tests[0] == tests[1] != tests[2]


def test_train_and_test_folders_are_kept(photographs, tmp_path):
    for side in ("train", "test"):
        for name in ("benign", "malignant"):
            target = tmp_path / "split" / side / name
            target.mkdir(parents=True)
            for path in sorted((photographs / name).iterdir())[:: 1 if side == "train" else 4]:
                (target / f"{side}{path.name}").write_bytes(path.read_bytes())
    dataset = folder.load(tmp_path / "split", image_size=16)
    assert (len(dataset.train), len(dataset.test)) == (24, 6)
    assert dataset.class_names == ("benign", "malignant")


def test_a_changed_file_is_decoded_again(photographs):
    before = folder.load(photographs, image_size=16)
    path = sorted((photographs / "benign").iterdir())[0]
    Image.fromarray(picture(120, (33, 33))).save(path)
    after = folder.load(photographs, image_size=16)
    assert (before.images != after.images).any(axis=(1, 2, 3)).sum() == 1


def write_sitk(path, values):
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))


@pytest.mark.parametrize("ending", ["nii.gz", "nii", "mha", "mhd", "nrrd"])
def test_volumes(tmp_path, ending):
    rng = np.random.default_rng(0)
    for name, hu in (("a", -700), ("b", 100)):
        (tmp_path / name).mkdir()
        for i in range(3):
            values = rng.normal(hu, 20, (10, 20, 30)).astype(np.int16)
            write_sitk(tmp_path / name / f"{i}.{ending}", values)
    dataset = folder.load(tmp_path, image_size=12, window=(-1000, 400))
    assert dataset.images.shape == (6, 1, 12, 12, 12)
    expected = np.where(dataset.labels == 0, 300 / 1400, 1100 / 1400) * 255
    np.testing.assert_allclose(dataset.images.mean((1, 2, 3, 4)), expected, atol=2)


def test_dicom_slices(tmp_path):
    for name, hu in (("a", -700), ("b", 100)):
        (tmp_path / name).mkdir()
        for i in range(3):
            values = np.full((1, 20, 30), hu, np.int16)
            values[0, 0, 0] = i
            write_sitk(tmp_path / name / f"{i}.dcm", values)
    dataset = folder.load(tmp_path, image_size=16, window=(-1000, 400))
    assert dataset.images.shape == (6, 1, 16, 16)
    assert np.unique(dataset.images[dataset.labels == 1][:, 0, 8, 8]).tolist() == [200]


def test_colour_decides_the_channels(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(picture(90)).save(tmp_path / name / "grey.png")
        red = np.zeros((8, 8, 3), np.uint8)
        red[..., 0] = 200
        Image.fromarray(red).save(tmp_path / name / "red.bmp")
    dataset = folder.load(tmp_path, image_size=8)
    assert dataset.images.shape == (4, 3, 8, 8)
    colours = dataset.images.mean((2, 3)).round()
    assert sorted(map(tuple, colours))[-1] == (200, 0, 0)
    assert (colours[:, 0] == colours[:, 2]).sum() == 2  # grey ones have equal channels


def test_deep_images_are_scaled_between_their_percentiles(tmp_path):
    values = np.linspace(1000, 5000, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    image = folder.read_image([tmp_path / "deep.png"], (1, 64, 64))
    assert image.min() == 0 and image.max() == 255
    assert abs(int(image[0, 32, 0]) - 128) <= 2


def test_shrinking_takes_means_and_growing_interpolates(tmp_path):
    checkers = (np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(checkers).save(tmp_path / "fine.png")
    shrunk = folder.read_image([tmp_path / "fine.png"], (1, 16, 16))
    assert set(np.unique(shrunk)) <= {127, 128}
    Image.fromarray(np.array([[0, 200]], np.uint8)).save(tmp_path / "two.png")
    grown = folder.read_image([tmp_path / "two.png"], (1, 4, 4))
    assert grown[0, 0].tolist() == [0, 50, 150, 200]


def test_npz(tmp_path):
    path = tmp_path / "images.npz"
    labels = np.arange(20) % 2
    images = np.repeat((labels * 90)[:, None], 64, 1).reshape(20, 8, 8).astype(np.uint8)
    np.savez(path, images=images, labels=labels, groups=np.arange(20) // 4)
    for root in (path, tmp_path):
        dataset = folder.load(root)
        assert dataset.images.shape == (20, 1, 8, 8)
        np.testing.assert_array_equal(dataset.images[:, 0, 0, 0], labels * 90)
        assert not set(dataset.groups[dataset.train]) & set(dataset.groups[dataset.test])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((4, 8, 8), np.uint8)}, "no array 'labels'"),
        (
            {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.array([{}] * 4)},
            "cannot be used: .*pickle",
        ),
        ({"images": np.zeros((4, 8, 8)), "labels": np.zeros(4, int)}, "must be uint8"),
        ({"images": np.zeros((4, 8, 8), np.uint8), "labels": np.zeros(3, int)}, "labels must be"),
        (
            {
                "images": np.zeros((4, 8, 8), np.uint8),
                "labels": np.array([0, 1, 0, 1]),
                "groups": np.zeros(3),
            },
            "groups must be",
        ),
    ],
)
def test_bad_npz(tmp_path, arrays, message):
    np.savez(tmp_path / "images.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        folder.load(tmp_path)


def test_bad_folders(tmp_path, photographs):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        folder.load(tmp_path / "nowhere")
    lone = tmp_path / "benign"
    with pytest.raises(FileNotFoundError, match="one folder of images a class"):
        folder.load(lone)
    with pytest.raises(ValueError, match="test_fraction"):
        folder.load(photographs, test_fraction=1.0)


def test_empty_classes(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "readme.txt").write_text("no image")
    with pytest.raises(FileNotFoundError, match="no images below"):
        folder.load(tmp_path)
    for i in range(3):
        Image.fromarray(picture(90, seed=i)).save(tmp_path / "a" / f"{i}.png")
    Image.fromarray(picture(120)).save(tmp_path / "b" / "0.png")
    with pytest.raises(ValueError, match="class 'b' has images of 1 group.*b/0.png"):
        folder.load(tmp_path)


@pytest.mark.parametrize("name", ["broken.png", "broken.nii.gz", "broken.dcm"])
def test_an_unreadable_file_is_named(photographs, name):
    (photographs / "benign" / name).write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=f"{name} cannot be decoded"):
        folder.load(photographs)


def test_a_truncated_png_is_named(photographs):
    path = sorted((photographs / "benign").iterdir())[0]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=f"{path.name} cannot be decoded"):
        folder.load(photographs)


def test_images_and_volumes_do_not_mix(photographs):
    write_sitk(photographs / "benign" / "volume.nii", np.zeros((6, 6, 6), np.int16))
    with pytest.raises(ValueError, match=r"volume.nii has 3 dimensions"):
        folder.load(photographs)
