"""The Kaggle reader: borders, patients, and files that are not right."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from al_gym.data import retinopathy

SIZES = {"n_train": 20, "n_test": 16, "image_size": 32}


def test_load(retinopathy_root):
    dataset = retinopathy.load(retinopathy_root, **SIZES)
    assert dataset.images.shape == (36, 3, 32, 32) and dataset.images.dtype == np.uint8
    assert dataset.n_classes == 5
    assert not set(dataset.groups[dataset.train]) & set(dataset.groups[dataset.test])
    assert retinopathy.load(retinopathy_root, **SIZES).fingerprint() == dataset.fingerprint()
    other = retinopathy.load(retinopathy_root, **SIZES, split_seed=1)
    assert other.fingerprint() != dataset.fingerprint()


def test_labels_and_images_belong_together(retinopathy_root):
    dataset = retinopathy.load(retinopathy_root, **SIZES)
    lines = (retinopathy_root / retinopathy.EYEPACS.labels).read_text().splitlines()[1:]
    eyes = {f"{patient}_{eye}" for patient in dataset.groups[:3] for eye in ("left", "right")}
    levels = {}
    for line in lines:
        name, level = line.split(",")
        if name in eyes:
            path = retinopathy_root / "train" / f"{name}.jpeg"
            levels[retinopathy.read_photograph(path, 32).tobytes()] = int(level)
    for i in range(3):
        assert levels[dataset.images[i].tobytes()] == dataset.labels[i]


def test_the_black_border_is_cropped(tmp_path):
    picture = np.full((100, 160, 3), 3, np.uint8)
    picture[20:80, 30:130] = 200
    cropped = retinopathy.crop_border(Image.fromarray(picture))
    assert cropped.size == (100, 60)
    path = tmp_path / "1_left.jpeg"
    Image.fromarray(picture).save(path, quality=95)
    image = retinopathy.read_photograph(path, 50)
    # 100 x 60 is padded to a square: bright between rows 10 and 40 of 50
    assert image[:, 13:37].min() > 180 and image[:, :8].max() < 20


def test_an_all_black_photograph_stays_whole():
    assert retinopathy.crop_border(Image.new("RGB", (40, 30))).size == (40, 30)


def test_large_photographs_are_decoded_at_a_fraction_with_the_same_result(tmp_path):
    x = np.linspace(0, 6, 1024)
    wave = (np.sin(x)[:, None] * np.cos(x)[None] * 100 + 130).astype(np.uint8)
    path = tmp_path / "1_left.jpeg"
    Image.fromarray(np.stack([wave] * 3, -1)).save(path, quality=95)
    small = retinopathy.read_photograph(path, 64)
    with Image.open(path) as file:
        whole = np.asarray(file.convert("RGB").resize((64, 64), Image.Resampling.BICUBIC))
    assert np.abs(small.astype(int) - whole.transpose(2, 0, 1)).mean() < 2


# --- the cache --------------------------------------------------------------------------------


def swap(one, other):
    """Exchange the content of two photographs, whose sizes and times stay."""
    contents = [path.read_bytes() for path in (one, other)]
    longer = max(map(len, contents))
    for path, content in zip((one, other), contents[::-1], strict=True):
        path.write_bytes(content.ljust(longer, b"\0"))  # JPEG ends at its marker
        os.utime(path, ns=(10**18, 10**18))


def test_changed_photographs_are_never_those_of_the_cache(root, tmp_path):
    before = retinopathy.load(root, **SIZES)
    assert retinopathy.load(root, **SIZES).files_decoded == 0
    one, other = (root / "train" / f"{name}.jpeg" for name in photographs(root, before)[:2])
    swap(one, other)
    expected = before.images.copy()
    expected[[0, 1]] = before.images[[1, 0]]
    np.testing.assert_array_equal(retinopathy.load(root, **SIZES).images, expected)
    checked = retinopathy.load(root, **SIZES, verify=True)
    swap(one, other)  # nothing but the bytes has changed
    np.testing.assert_array_equal(
        retinopathy.load(root, **SIZES, verify=True).images, before.images
    )
    np.testing.assert_array_equal(checked.images, expected)


def test_another_root_with_the_same_label_file(root, tmp_path):
    before = retinopathy.load(root, **SIZES)
    copy = shutil.copytree(root, tmp_path / "copy")
    for path in (copy / "train").iterdir():
        Image.new("RGB", (40, 40), (90, 60, 30)).save(path)
    images = retinopathy.load(copy, **SIZES).images
    assert images.std((0, 2, 3)).max() == 0 < before.images.std()


def photographs(root, dataset):
    """Names of the images of a data set, found by their pixels."""
    names = {
        retinopathy.read_photograph(path, 32).tobytes(): path.stem
        for path in (root / "train").iterdir()
    }
    return [names[image.tobytes()] for image in dataset.images]


# --- bad input --------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path, retinopathy_root):
    return shutil.copytree(retinopathy_root, tmp_path / "root")


def rewrite(root, line, text):
    path = root / retinopathy.EYEPACS.labels
    lines = path.read_text().splitlines()
    lines[line] = text
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("1_left,5", ValueError, "line 3: level 5 is not a grade"),
        ("1_left,bad", ValueError, "line 3: column 'level' holds 'bad'"),
        ("1_middle,0", ValueError, "line 3: image '1_middle' is not named"),
        (
            "987654_left,0",
            FileNotFoundError,
            r"line 3: there is no image 987654_left.jpeg, .jpg or .png",
        ),
        ("../../x_left,0", FileNotFoundError, "line 3: there is no image"),
    ],
)
def test_a_bad_line_is_named(root, text, error, message):
    rewrite(root, 2, text)
    with pytest.raises(error, match=message):
        retinopathy.load(root, **SIZES)


def test_missing_column(root):
    rewrite(root, 0, "image,grade")
    with pytest.raises(ValueError, match="lacks the column 'level'"):
        retinopathy.load(root, **SIZES)


def test_a_label_file_that_is_none(root):
    (root / retinopathy.EYEPACS.labels).write_bytes(b"\xff\xfe\x00image")
    with pytest.raises(ValueError, match="not a csv file"):
        retinopathy.load(root, **SIZES)
    (root / retinopathy.EYEPACS.labels).write_text("image,level\n")
    with pytest.raises(ValueError, match="no lines"):
        retinopathy.load(root, **SIZES)


def test_missing_folders(tmp_path, root):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        retinopathy.load(tmp_path / "nowhere")
    shutil.rmtree(root / "train")
    with pytest.raises(FileNotFoundError, match=r"Unpack the photographs"):
        retinopathy.load(root, **SIZES)


@pytest.mark.parametrize("content", [b"not a jpeg", b""])
def test_an_unreadable_photograph_is_named(root, content):
    for path in (root / "train").iterdir():
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"_(left|right)\.jpeg cannot be decoded"):
        retinopathy.load(root, **SIZES, split_seed=3)


def test_a_truncated_photograph_is_named(root):
    path = next((root / "train").iterdir())
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=path.name):
        retinopathy.read_photograph(path, 32)
