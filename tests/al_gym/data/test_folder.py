"""The user's own images: settings, decoding to one size, and what is refused."""

import os

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from al_gym.data import folder
from al_gym.data.dataset import UNKNOWN
from tests.dicom_samples import write_slice


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


def test_a_few_bright_pixels_keep_their_differences():
    """Both percentiles are the background."""
    values = np.zeros((1, 40, 40), np.uint16)
    values[0, 3, 3:6] = 1000, 2000, 5000
    image = folder.fitted("x", values, (1, 40, 40))
    assert image[0, 3, 2:7].tolist() == [0, 51, 102, 255, 0]


def test_tiny_values_are_not_lost():
    """Such as of diffusion in m²/s: 1e-9 is no less a value than 1000."""
    values = np.linspace(0, 3, 64, dtype=np.float32).reshape(1, 8, 8)
    scaled = [folder.fitted("x", values * scale, (1, 8, 8)) for scale in (1e-9, 1, 1e9)]
    assert scaled[0].max() == 255
    np.testing.assert_allclose(scaled[0], scaled[1], atol=1)
    np.testing.assert_allclose(scaled[2], scaled[1], atol=1)
    assert (folder.fitted("x", np.full((1, 8, 8), 7, np.int16), (1, 8, 8)) == 0).all()


def test_shrinking_takes_means_and_growing_interpolates(tmp_path):
    checkers = (np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(checkers).save(tmp_path / "fine.png")
    shrunk = folder.read_image([tmp_path / "fine.png"], (1, 16, 16))
    assert set(np.unique(shrunk)) <= {127, 128}
    Image.fromarray(np.array([[0, 200]], np.uint8)).save(tmp_path / "two.png")
    grown = folder.read_image([tmp_path / "two.png"], (1, 4, 4))
    assert grown[0, 0].tolist() == [0, 50, 150, 200]


def test_bad_folders(tmp_path, photographs):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        folder.load(tmp_path / "nowhere")
    lone = tmp_path / "benign"
    with pytest.raises(FileNotFoundError, match="one folder of images a class"):
        folder.load(lone)


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


def test_8_bits_and_more_do_not_mix_without_a_window(photographs):
    """They would come out in two brightnesses, although their values are equal."""
    shallow, deep = sorted(photographs.rglob("*.png"))[0], photographs / "benign" / "deep.png"
    Image.fromarray(np.asarray(Image.open(shallow)).astype(np.uint16)).save(deep)
    with pytest.raises(ValueError, match=rf"{shallow} has 8 bits.*{deep} .*window=") as raised:
        folder.load(photographs)
    assert "exclude" in str(raised.value)
    dataset = folder.load(photographs, window=(0, 255), image_size=8)
    images = dict(zip(dataset.names, dataset.images, strict=True))
    name = shallow.relative_to(photographs).as_posix()
    np.testing.assert_array_equal(images["benign/deep.png"], images[name])
    assert len(folder.load(photographs, exclude="deep.png").images) == 24


def test_images_and_volumes_do_not_mix(photographs):
    write_sitk(photographs / "benign" / "volume.nii", np.zeros((6, 6, 6), np.int16))
    with pytest.raises(ValueError, match=r"volume.nii has 3 .*one of 1 images\), .* 2 \(one of \d"):
        folder.load(photographs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 3}, "image_size must be at least 4, not 3"),
        ({"image_size": 24.0}, "image_size must be an integer"),
        ({"image_size": "24"}, "image_size must be an integer"),
        ({"image_size": True}, "image_size must be"),
        ({"image_size": (8, 16, 24)}, r"image_size \(8, 16, 24\) has 3 numbers.* 2 axes"),
        ({"image_size": ()}, r"image_size \(\) has 0 numbers"),
        ({"image_size": (8, 0)}, "image_size must be at least 4, not 0"),
        ({"window": (400, -1000)}, "window must be .*low < high"),
        ({"window": (5, 5)}, "window must be .*low < high"),
        ({"window": (0, float("nan"))}, "window must be .*low < high"),
        ({"window": (0, float("inf"))}, "window must be .*low < high"),
        ({"window": 400}, "window must be two numbers"),
        ({"window": "ab"}, "window must be two numbers"),
        ({"group_pattern": "p("}, r"group_pattern 'p\(' is no regular expression"),
        ({"group_pattern": 5}, "group_pattern 5 is no regular expression"),
        ({"exclude": [5]}, "exclude must be a pattern"),
        ({"exclude": 5}, "exclude must be a pattern"),
        ({"duplicates": "remove"}, "duplicates must be one of"),
        ({"test_fraction": 1.0}, "test_fraction must lie"),
        ({"test_fraction": -0.1}, "test_fraction must lie"),
        ({"split_seed": -1}, "split_seed must be at least 0"),
        ({"labels": ""}, "labels is empty"),
        ({"test_fraction": "0.3"}, "test_fraction must be a number"),
    ],
)
def test_bad_settings_are_named(photographs, settings, message):
    with pytest.raises(ValueError, match=message):
        folder.load(photographs, **settings)


def test_a_size_for_each_axis(tmp_path):
    for name in ("a", "b"):
        for i in range(2):
            (tmp_path / name).mkdir(exist_ok=True)
            rows = np.repeat(np.arange(8, dtype=np.uint8)[:, None] * 10, 16, 1) + i
            Image.fromarray(rows).save(tmp_path / name / f"{i}.png")
    images = folder.load(tmp_path, image_size=[8, 16]).images
    assert images.shape == (4, 1, 8, 16)
    assert images[0, 0, :, 0].tolist() == [0, 10, 20, 30, 40, 50, 60, 70]
    assert folder.load(tmp_path, image_size=(4, 8)).images[0, 0, :, 0].tolist() == [5, 25, 45, 65]


def test_no_test_images(photographs):
    dataset = folder.load(photographs, image_size=8, test_fraction=0)
    assert (len(dataset.train), len(dataset.test)) == (24, 0)


def test_names_are_paths_and_rows_are_sorted(photographs):
    (photographs / "unlabelled").mkdir()
    Image.fromarray(picture(120)).save(photographs / "unlabelled" / "new.png")
    dataset = folder.load(photographs, image_size=8)
    paths = sorted(path for path in photographs.rglob("*.png") if path.parent.name != "unlabelled")
    expected = [path.relative_to(photographs).as_posix() for path in paths]
    assert dataset.names.tolist() == [*expected, "unlabelled/new.png"]
    assert dataset.labels.tolist() == [0] * 12 + [1] * 12 + [UNKNOWN]
    assert 24 in dataset.train
    assert dataset.class_names == ("benign", "malignant")


def test_a_validation_folder(photographs, tmp_path):
    root = tmp_path / "split"
    for i, path in enumerate(sorted(photographs.rglob("*.png"))):
        target = root / ("val" if i % 3 == 0 else "train") / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    dataset = folder.load(root, image_size=8)
    sides = [len(rows) for rows in (dataset.train, dataset.validation, dataset.test)]
    assert sides == [12, 8, 4]
    assert all(dataset.names[row].startswith("val/") for row in dataset.validation)
    assert "there are validation images and no test images: 4 training" in dataset.notes[0]


@pytest.mark.parametrize("duplicates", ["keep", "drop"])
def test_copies_of_test_images(photographs, tmp_path, duplicates):
    root = tmp_path / "split"
    for i, path in enumerate(sorted(photographs.rglob("*.png"))):
        target = root / ("test" if i % 4 == 0 else "train") / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        if i == 4:
            copy = root / "train" / path.parent.name / "copy.png"
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    dataset = folder.load(root, image_size=8, duplicates=duplicates)
    assert ("train/benign/copy.png" in dataset.names) == (duplicates == "keep")
    assert len(dataset.train) == (19 if duplicates == "keep" else 18)
    (note,) = dataset.notes
    assert note.startswith(
        "1 training images are copies, to the byte, of test or validation images"
    )
    assert "train/benign/copy.png of test/benign/" in note


def test_voxels_repaired_in_place_are_decoded_again(tmp_path):
    for name in ("a", "b"):
        for i in range(2):
            (tmp_path / name).mkdir(exist_ok=True)
            write_sitk(
                tmp_path / name / f"{i}.mhd", np.full((4, 4, 4), ord(name) + 10 * i, np.uint8)
            )
    before = folder.load(tmp_path, image_size=4)
    assert before.files_decoded == 4
    assert folder.load(tmp_path, image_size=4).files_decoded == 0
    (tmp_path / "a" / "0.raw").write_bytes(b"\x07" * 64)
    after = folder.load(tmp_path, image_size=4)
    assert after.files_decoded == 4
    assert after.images[0].tolist() == np.full((1, 4, 4, 4), 7).tolist()


def test_verify_sees_what_size_and_time_do_not(photographs):
    settings = {"image_size": 8, "test_fraction": 0}
    path = sorted((photographs / "benign").iterdir())[0]
    other = sorted((photographs / "malignant").iterdir())[0]
    Image.fromarray(picture(90)).save(path, "bmp")
    before = {
        verify: folder.load(photographs, verify=verify, **settings) for verify in (False, True)
    }
    stat = path.stat()
    Image.fromarray(picture(200)).save(path, "bmp")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size and other.exists()
    assert (folder.load(photographs, **settings).images == before[False].images).all()
    assert folder.load(photographs, verify=True, **settings).images[0].mean() > 150


def test_labels_and_root_may_begin_at_home(photographs, monkeypatch):
    monkeypatch.setenv("HOME", str(photographs))
    lines = [
        f"{path.relative_to(photographs)},{path.parent.name}" for path in photographs.rglob("*.png")
    ]
    (photographs / "mine.csv").write_text("\n".join(["file,label", *lines]))
    dataset = folder.load("~", labels="~/mine.csv", image_size=8)
    assert dataset.class_names == ("benign", "malignant")
    with pytest.raises(FileNotFoundError, match="none.csv"):
        folder.load("~", labels="~/none.csv")


def test_a_localiser_in_a_series_is_named(tmp_path):
    for name in "ab":
        for z in range(3):
            pixels = np.full((4, 4), z, np.int16)
            write_slice(
                tmp_path / name / f"{z}", pixels, series=f"1.{ord(name)}", patient=name, z=z
            )
    scout = tmp_path / "a" / "scout"
    write_slice(
        scout, np.zeros((4, 4), np.int16), series="1.97", patient="a", axes=(0, 1, 0, 0, 0, -1)
    )
    with pytest.raises(
        ValueError,
        match=rf"{scout} has another orientation.*a localiser.*exclude.*join_series=False",
    ):
        folder.load(tmp_path, test_fraction=0)
    dataset = folder.load(tmp_path, test_fraction=0, exclude="scout", image_size=4)
    assert dataset.images.shape == (2, 1, 4, 4, 4)
    assert len(folder.load(tmp_path, test_fraction=0, join_series=False).images) == 7


def test_a_dicom_series_is_one_volume_in_order(tmp_path):
    for name, base in (("a", 0), ("b", 1000)):
        for scan in range(2):
            for i, z in enumerate(
                (20.0, 0.0, 10.0, 30.0)
            ):  # the files are not in the order of slices
                pixels = np.full((4, 4), base + z + scan, np.int16)
                write_slice(
                    tmp_path / name / f"s{scan}" / f"IM{i}", pixels,
                    series=f"1.{base}.{scan}", patient=f"{name}{scan}", z=z,
                )  # fmt: skip
    dataset = folder.load(tmp_path, image_size=(4, 4, 4), window=(0, 255))
    assert dataset.images.shape == (4, 1, 4, 4, 4)
    assert dataset.names.tolist() == ["a/s0", "a/s1", "b/s0", "b/s1"]
    assert dataset.groups.tolist() == ["a0", "a1", "b0", "b1"]
    assert dataset.images[1, 0, :, 0, 0].tolist() == [1, 11, 21, 31]
    with pytest.raises(ValueError, match="join_series=False, which takes every file as an image"):
        write_slice(
            tmp_path / "a/s0/IM9", np.zeros((5, 4), np.int16),
            series="1.0.0", patient="a0", z=40.0,
        )  # fmt: skip
        folder.load(tmp_path)
    flat = folder.load(tmp_path, join_series=False, image_size=4, test_fraction=0.5)
    assert flat.images.shape == (17, 1, 4, 4)
    assert sorted(set(flat.groups)) == ["a0", "a1", "b0", "b1"]


# --- classes that are known before any image is labelled ------------------------------------------


@pytest.fixture
def scattered(tmp_path):
    """Nine images in any folders, and one each in those of two classes."""
    for i, name in enumerate(
        ["1.png", "2.png", "p1/3.png", "p1/train/4.png", "p2/masks/5.png", "test/6.png",
         "Light/7.png", "x/dark/8.png", "unlabelled/9.png", "dark/a.png", "light/b/c.png"]
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(20 * i)).save(tmp_path / name)
    return tmp_path


def test_images_may_lie_anywhere_where_the_classes_are_given(scattered):
    names = ["light", "grey", "dark"]
    dataset = folder.load(scattered, class_names=names, test_fraction=0.0, image_size=8)
    assert dataset.class_names == ("light", "grey", "dark")
    labelled = {
        name: label
        for name, label in zip(dataset.names.tolist(), dataset.labels.tolist(), strict=True)
        if label != UNKNOWN
    }
    assert labelled == {"light/b/c.png": 0, "dark/a.png": 2}
    assert len(dataset.names) == len(dataset.train) == 11
    for name, image in zip(dataset.names, dataset.images, strict=True):
        expected = folder.read_image([scattered / name], (1, 8, 8))
        np.testing.assert_array_equal(image, expected)


def test_nothing_need_be_labelled(scattered):
    """Nor is a test side drawn from what nobody knows."""
    dataset = folder.load(scattered, class_names=("sick", "healthy"), image_size=8)
    assert (dataset.labels == UNKNOWN).all() and len(dataset.labels) == 11
    assert len(dataset.test) == 0 and dataset.class_names == ("sick", "healthy")
    dataset = folder.load(
        scattered, class_names=("sick", "healthy"), image_size=8, group_pattern=r"(?:.*/)?(.)\.png"
    )
    assert len(set(dataset.groups)) == 11


def test_a_csv_says_the_labels_of_given_classes(scattered):
    csv = scattered / "labels.csv"
    csv.write_text("file,label,split\n1.png,dark,train\nx/dark/8.png,light,train\n2.png,,train\n")
    dataset = folder.load(scattered, class_names=["light", "dark"], test_fraction=0, image_size=8)
    known = {n: y for n, y in zip(dataset.names, dataset.labels, strict=True) if y != UNKNOWN}
    assert known == {"1.png": 1, "x/dark/8.png": 0}  # names of folders say nothing
    csv.write_text("file,label,split\n1.png,grey,train\n")
    with pytest.raises(ValueError, match=r"1.png is labelled 'grey', which is none of class_names"):
        folder.load(scattered, class_names=["light", "dark"])


def test_given_classes_are_for_folders(tmp_path):
    images = np.zeros((4, 8, 8), np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.array([0, 1, 0, 1]))
    for root in (tmp_path, tmp_path / "images.npz"):
        with pytest.raises(ValueError, match="class_names is for folders"):
            folder.load(root, class_names=("a", "b"))


def test_one_given_class_is_refused(scattered):
    with pytest.raises(ValueError, match="class_names must be two names at least"):
        folder.load(scattered, class_names=["dark"])
