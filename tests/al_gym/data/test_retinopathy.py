"""The Kaggle reader: borders, patients, and files that are not right."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

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


@pytest.fixture
def root(tmp_path, retinopathy_root):
    return shutil.copytree(retinopathy_root, tmp_path / "root")


# --- layouts --------------------------------------------------------------------------------------


def rename(root, change):
    for path in list((root / "train").iterdir()):
        path.rename(path.with_name(change(path.name)))


@pytest.mark.parametrize("ending", [".jpg", ".JPEG", ".Jpg"])
def test_copies_with_other_endings(root, ending):
    before = retinopathy.load(root, **SIZES)
    rename(root, lambda name: name.replace(".jpeg", ending))
    again = retinopathy.load(root, **SIZES)
    assert again.fingerprint() == before.fingerprint() and again.files_decoded == 36
    assert again.names[0] == before.names[0].replace(".jpeg", ending)


def test_copies_as_png(root):
    before = retinopathy.load(root, **SIZES)
    for path in list((root / "train").iterdir()):
        with Image.open(path) as file:
            file.save(path.with_suffix(".PNG"), format="png", compress_level=1)
        path.unlink()
    again = retinopathy.load(root, **SIZES)
    assert again.labels.tolist() == before.labels.tolist()
    assert np.abs(again.images.astype(int) - before.images).mean() < 3  # no draft for PNG


@pytest.mark.parametrize(
    ("labels", "images"),
    [("trainlabels.csv", "train"), ("train_labels.csv", "Train"), ("Train-Labels.CSV", "TRAIN")],
)
def test_other_spellings_of_the_competitions_names(root, labels, images):
    before = retinopathy.load(root, **SIZES)
    (root / "trainLabels.csv").rename(root / labels)
    (root / "train").rename(root / images)
    assert retinopathy.load(root, **SIZES).fingerprint() == before.fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [line.replace(",", ";") for line in lines],
        lambda lines: [line.replace(",", "\t") + "\r" for line in lines],
        lambda lines: ["Image, Level", *[f"{line}.0" for line in lines[1:]], ",", ""],
        lambda lines: [lines[0], *[line.replace(",", ".jpeg,") for line in lines[1:]]],
        lambda lines: [f",{lines[0]}", *[f"{i},{line}" for i, line in enumerate(lines[1:])]],
    ],
)
def test_label_files_of_spreadsheets(root, change):
    before = retinopathy.load(root, **SIZES)
    path = root / retinopathy.EYEPACS.labels
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    assert retinopathy.load(root, **SIZES).fingerprint() == before.fingerprint()


@pytest.fixture
def aptos(root):
    """The same photographs as APTOS names them."""
    rows = [line.split(",") for line in (root / "trainLabels.csv").read_text().splitlines()[1:]]
    (root / "train_images").mkdir()
    lines = ["id_code,diagnosis"]
    for i, (name, level) in enumerate(rows):
        code = f"{i * 7919:012x}"
        with Image.open(root / "train" / f"{name}.jpeg") as file:
            file.save(root / "train_images" / f"{code}.png", compress_level=1)
        lines.append(f"{code},{level}")
    (root / "train.csv").write_text("\n".join(lines) + "\n")
    (root / "trainLabels.csv").unlink()
    shutil.rmtree(root / "train")
    return root


def test_aptos(aptos):
    dataset = retinopathy.load(aptos, **SIZES)
    assert dataset.images.shape == (36, 3, 32, 32) and len(set(dataset.groups)) == 36
    levels = dict(line.split(",") for line in (aptos / "train.csv").read_text().splitlines())
    for i in (0, 20):
        path = aptos / dataset.names[i]
        assert int(levels[path.stem]) == dataset.labels[i]
        image = retinopathy.read_photograph(path, 32)
        np.testing.assert_array_equal(dataset.images[i], image)
    assert dataset.notes == (
        "train.csv names no patients; every photograph counts as one of its own",
    )


def test_two_layouts_in_one_root_are_refused(aptos):
    (aptos / "trainLabels.csv").write_text("image,level\n1_left,0\n")
    readings = r"trainLabels.csv with train/ or train.csv with train_images/"
    with pytest.raises(ValueError, match=rf"could be read as {readings}"):
        retinopathy.load(aptos, **SIZES)


def test_neither_layout(root):
    (root / "trainLabels.csv").rename(root / "labels.csv")
    with pytest.raises(FileNotFoundError, match=r"neither trainLabels.csv .* nor train.csv"):
        retinopathy.load(root, **SIZES)


def test_what_has_no_line_is_counted(root):
    path = root / retinopathy.EYEPACS.labels
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-2], lines[1]]) + "\n")
    Image.new("RGB", (9, 9)).save(root / "train" / "._10_left.jpeg", format="jpeg")  # no data
    unnamed = sorted(f"train/{line.split(',')[0]}.jpeg" for line in lines[-2:])
    notes = retinopathy.load(root, **SIZES).notes
    assert notes == (
        "trainLabels.csv: lines that repeat an earlier one are left out: 1, the first is line "
        f"{len(lines) - 1}",
        f"photographs without a line in the label file, not used: 2, {unnamed[0]} for one",
    )
    assert retinopathy.load(root, **SIZES).notes == notes  # from the cache, too


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
    one, other = (root / name for name in before.names[:2])
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


# --- bad input --------------------------------------------------------------------------------


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
    (root / "train").rename(root / "resized_train")
    message = r"Unpack the photographs there, or rename .* to train; there are: .*resized_train"
    with pytest.raises(FileNotFoundError, match=message):
        retinopathy.load(root, **SIZES)
    shutil.rmtree(root / "resized_train")
    with pytest.raises(FileNotFoundError, match=r"there are: none"):
        retinopathy.load(root, **SIZES)


@pytest.mark.parametrize("content", [b"not a jpeg", b""])
def test_an_unreadable_photograph_is_named(root, content):
    for path in (root / "train").iterdir():
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"_(left|right)\.jpeg cannot be decoded"):
        retinopathy.load(root, **SIZES, split_seed=3)


def test_two_files_of_one_photograph(root):
    path = sorted((root / "train").iterdir())[3]
    Image.new("RGB", (40, 40)).save(path.with_suffix(".png"))
    with pytest.raises(ValueError, match=rf"two files are of one photograph: .*{path.name}"):
        retinopathy.load(root, **SIZES)


def test_a_photograph_of_two_grades(root):
    name, level = (root / retinopathy.EYEPACS.labels).read_text().splitlines()[1].split(",")
    rewrite(root, 4, f"{name},{(int(level) + 1) % 5}")
    with pytest.raises(ValueError, match=rf"line 5: image '{name}' is in line 2, too"):
        retinopathy.load(root, **SIZES)


@pytest.mark.parametrize("name", ["train", "trainLabels.csv", "photograph"])
def test_links_out_of_the_root_are_refused(root, tmp_path, name):
    path = next((root / "train").iterdir()) if name == "photograph" else root / name
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=rf"{path.name} is a link .*elsewhere"):
        retinopathy.load(root, **SIZES)


def test_links_inside_the_root_are_followed(root):
    before = retinopathy.load(root, **SIZES)
    (root / "train").rename(root / "part1")
    (root / "part2").mkdir()
    path = root / "part1" / Path(before.names[0]).name
    path.rename(root / "part2" / path.name)
    path.symlink_to(root / "part2" / path.name)
    (root / "train").symlink_to("part1")
    assert retinopathy.load(root, **SIZES).fingerprint() == before.fingerprint()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 4}, "image_size must be at least 8"),
        ({"image_size": "32"}, "image_size must be an integer, not '32'"),
        ({"image_size": 32.0}, "image_size must be an integer, not 32.0"),
        ({"image_size": (32, 32)}, "image_size must be an integer"),
        ({"n_train": "20"}, "n_train must be an integer"),
        ({"n_train": 0}, "n_train must be at least 1"),
        ({"n_test": -1}, "n_test must be at least 0"),
        ({"split_seed": None}, "split_seed must be an integer"),
    ],
)
def test_bad_settings_are_named_before_anything_is_read(change, message):
    with pytest.raises(ValueError, match=message):
        retinopathy.load("nowhere", **{**SIZES, **change})


def test_numpy_numbers_are_numbers(root):
    sizes = {name: np.int64(value) for name, value in SIZES.items()}
    assert retinopathy.load(root, **SIZES).files_decoded == 36
    assert retinopathy.load(root, **sizes).files_decoded == 0


def test_no_test_images_at_all(root):
    dataset = retinopathy.load(root, n_train=20, n_test=0, image_size=32)
    assert len(dataset.test) == 0 and len(dataset.train) == 20


def test_a_truncated_photograph_is_named(root):
    path = next((root / "train").iterdir())
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=path.name):
        retinopathy.read_photograph(path, 32)


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("ending", [".jpeg", ".png"])
def test_every_truncation_is_refused(tmp_path, ending, kept):
    path = tmp_path / f"1_left{ending}"
    photograph().save(path, progressive=True)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    for size in (8, 200):  # a fraction, and the whole
        with pytest.raises(ValueError, match=rf"{path.name} cannot be decoded"):
            retinopathy.read_photograph(path, size)


def test_a_photograph_of_another_format_than_it_says(tmp_path):
    path = tmp_path / "1_left.jpeg"
    photograph().save(path, format="gif")
    with pytest.raises(ValueError, match=r"1_left.jpeg cannot be decoded"):
        retinopathy.read_photograph(path, 32)


def test_more_than_8_bits_are_refused(tmp_path):
    path = tmp_path / "1_left.png"
    Image.fromarray(np.arange(10000, dtype=np.uint16).reshape(100, 100)).save(path)
    with pytest.raises(ValueError, match=r"1_left.png .*more than 8 bits"):
        retinopathy.read_photograph(path, 32)


def test_alpha_that_hides_nothing_is_dropped_and_other_is_refused(tmp_path):
    path = tmp_path / "1_left.png"
    image = photograph()
    image.save(path)
    expected = retinopathy.read_photograph(path, 32)
    image.putalpha(255)
    image.save(path)
    np.testing.assert_array_equal(retinopathy.read_photograph(path, 32), expected)
    image.putpixel((3, 3), (0, 0, 0, 0))
    image.save(path)
    with pytest.raises(ValueError, match=r"1_left.png cannot be decoded: .*transparent pixels"):
        retinopathy.read_photograph(path, 32)


def test_pillow_must_not_fill_up_what_is_lost(tmp_path, monkeypatch):
    path = tmp_path / "1_left.jpeg"
    photograph().save(path)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ValueError, match=r"1_left.jpeg .*LOAD_TRUNCATED_IMAGES is set"):
        retinopathy.read_photograph(path, 32)


# --- EXIF -----------------------------------------------------------------------------------------


def photograph():
    """A picture without symmetry, 300 x 200, bright up to its edges."""
    x, y = np.meshgrid(np.linspace(0, 1, 300), np.linspace(0, 1, 200))
    channels = [40 + 200 * x * y, 60 + 180 * x**2, 50 + 150 * y]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("ending", "size"), [(".jpeg", 256), (".jpeg", 40), (".png", 40)])
def test_exif_turns_the_photograph(tmp_path, orientation, ending, size):
    """Eight files of one eye, stored in eight ways, are one image."""
    upright = np.asarray(photograph())
    stored = {  # what is in the file's first row and column, by EXIF 2.32, table 6
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    quality = {} if ending == ".png" else {"quality": 98, "subsampling": 0}
    path = tmp_path / f"1_left{ending}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **quality)
    Image.fromarray(upright).save(tmp_path / f"2_left{ending}", **quality)
    image = retinopathy.read_photograph(path, size).astype(int)
    expected = retinopathy.read_photograph(tmp_path / f"2_left{ending}", size)
    inside = np.s_[:, size // 4 : -size // 4, size // 8 : -size // 8]  # edges ring in a JPEG
    assert np.abs(image - expected)[inside].max() <= 4
