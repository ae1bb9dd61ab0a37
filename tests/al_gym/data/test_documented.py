"""Every row of docs/data.md's tables of layouts, formats and orientations, on real files."""

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image

from al_gym.data import folder
from al_gym.data.dataset import UNKNOWN
from tests.dicom_samples import STORAGE, write_dicom, write_slice

PAGE = Path(__file__).parents[3] / "docs" / "data.md"
CASES = {}


def rows():
    """The first cells of the tables that are about folders."""
    text = PAGE.read_text()
    tables = re.findall(
        r"^\| (?:below the root|format|orientation) .*\n\|-.*\n((?:\|.*\n)+)", text, re.M
    )
    assert len(tables) == 3
    return [line.split(" | ")[0].strip("| ") for table in tables for line in table.splitlines()]


def row(*cells):
    """This function is the test of the row that begins with the cell."""

    def add(case):
        CASES.update(dict.fromkeys(cells, case))
        return case

    return add


@pytest.mark.parametrize("cell", rows())
def test_the_row_is_true(cell, tmp_path):
    assert cell in CASES, f"no test of the row {cell!r}"
    CASES[cell](tmp_path)


def test_there_is_a_row_for_every_test():
    assert set(CASES) == set(rows())


# files, and what the reader makes of them


def pixels(number=0, size=(4, 4)):
    """An image like no other."""
    return np.random.default_rng(number).integers(0, 256, size).astype(np.uint8)


def save(root, *names):
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(number)).save(root / name)


def read(root, **settings):
    """What each image is: class, side, group."""
    dataset = folder.load(root, **settings)
    said = {}
    for side in ("train", "validation", "test"):
        for image in getattr(dataset, side):
            label = dataset.labels[image]
            name = None if label == UNKNOWN else dataset.class_names[label]
            said[str(dataset.names[image])] = (name, side, str(dataset.groups[image]))
    return said


def sides(root, **settings):
    return {name: said[:2] for name, said in read(root, **settings).items()}


@row("`<class>/<image>`")
def _(root):
    save(root, *[f"{name}/{i}.png" for name in "ab" for i in range(10)])
    said = read(root, test_fraction=0.3)
    for name in "ab":
        drawn = [side for class_name, side, _ in said.values() if class_name == name]
        assert (drawn.count("test"), drawn.count("train")) == (3, 7)


@row("`<class>/<patient>/<image>`")
def _(root):
    save(
        root, *[f"{name}/{name}{p}/p{p}_{i}.png" for name in "ab" for p in range(4) for i in (0, 1)]
    )
    by_folder = read(root, group_pattern=r"([^/]+)/")
    assert {group for _, _, group in by_folder.values()} == {
        f"{n}{p}" for n in "ab" for p in range(4)
    }
    by_name = read(root, group_pattern=r"p(\d+)_", test_fraction=0)
    assert {group for _, _, group in by_name.values()} == set("0123")


@row("`train/<class>/`, `test/<class>/`")
def _(root):
    save(root, "Training/a/1.png", "Training/b/1.png", "testing/a/2.png")
    assert sides(root) == {
        "Training/a/1.png": ("a", "train"), "Training/b/1.png": ("b", "train"),
        "testing/a/2.png": ("a", "test"),
    }  # fmt: skip


@row("`<class>/train/`, `<class>/test/`")
def _(root):
    save(root, "a/train/1.png", "b/train/1.png", "a/test/2.png")
    assert sides(root) == {
        "a/train/1.png": ("a", "train"), "b/train/1.png": ("b", "train"),
        "a/test/2.png": ("a", "test"),
    }  # fmt: skip


@row("`train/`, `val/`, `test/`")
def _(root):
    save(root, "train/a/1.png", "train/b/1.png", "val/a/2.png", "test/a/3.png")
    assert sides(root)["val/a/2.png"] == ("a", "validation")


@row("`train/`, `val/`")
def _(root):
    save(root, *[f"train/{n}/{i}.png" for n in "ab" for i in range(4)], "val/a/9.png")
    said = sides(root, test_fraction=0.25)
    assert said["val/a/9.png"] == ("a", "validation")
    assert sorted(said.values()).count(("a", "test")) == 1
    assert sorted(said.values()).count(("b", "test")) == 1


@row("`unlabelled/`")
def _(root):
    save(root, "train/a/1.png", "train/b/1.png", "test/a/2.png", "unlabelled/x/3.png")
    assert sides(root)["unlabelled/x/3.png"] == (None, "train")


@row("`labels.csv`")
def _(root):
    save(root, "1.png", "x/2.png", "3.png", "4.png")
    lines = "file,label,patient,split\n1,b,p,train\nx/2.png,a,q,test\n3,,r,\n"
    lines += "4,a,s,train\n"
    (root / "labels.csv").write_text(lines)
    expected = {
        "1.png": ("b", "train", "p"), "x/2.png": ("a", "test", "q"), "3.png": (None, "train", "r"),
        "4.png": ("a", "train", "s"),
    }  # fmt: skip
    assert read(root) == expected
    (root / "labels.csv").rename(root / "my.csv")
    assert read(root, labels=root / "my.csv") == expected


@row("`labels.csv` with other names")
def _(root):
    save(root, "x/1.png", "x/2.png", "x/3.png", "y/3.png", "z/4.png")
    csv = root / "labels.csv"
    lines = f"file,label,age\n1,a,60\nx/2.PNG,b,60\n{root}/y/3.png,a,60\nZ/4.png,b,60\n"
    csv.write_text(lines)
    said = {name: class_name for name, (class_name, _, _) in read(root, test_fraction=0).items()}
    assert said == {"x/1.png": "a", "x/2.png": "b", "x/3.png": None, "y/3.png": "a", "z/4.png": "b"}
    csv.write_text(lines + "3.png,b,60\n")
    with pytest.raises(ValueError, match=r"3\.png may be x/3\.png or y/3\.png"):
        read(root)
    for column in ("patient_id", "fold"):
        csv.write_text(lines.replace("age", column))
        with pytest.raises(ValueError, match=f"column '{column}' may be the"):
            read(root)


@row("slices of a DICOM series", "DICOM series")
def _(root):
    for name in "ab":
        for i, z in enumerate([3.0, 1.0, 2.0, 0.0]):
            values = np.full((4, 4), 10 * z, np.int16)
            write_slice(root / name / "scan" / str(i), values, series=f"1.{ord(name)}",
                        patient=f"p{name}", z=z)  # fmt: skip
    assert read(root, test_fraction=0) == {
        "a/scan": ("a", "train", "pa"), "b/scan": ("b", "train", "pb"),
    }  # fmt: skip
    volume = folder.load(root, test_fraction=0, image_size=4, window=(0, 255)).images[0]
    assert volume[0, :, 0, 0].tolist() == [0, 10, 20, 30]
    assert len(read(root, test_fraction=0, join_series=False)) == 8


@row("`images.npz`")
def _(root):
    images = np.stack([pixels(i, (6, 7)) for i in range(4)])
    for array in (images, images[..., None].repeat(3, -1), images[:, None].repeat(5, 1)):
        np.savez(
            root / "images.npz", images=array, labels=[0, 1, -1, 0], groups=[7, 8, 8, 9],
            names=list("wxyz"), split=["train"] * 3 + ["test"],
        )  # fmt: skip
        assert read(root) == {
            "w": ("0", "train", "7"), "x": ("1", "train", "8"), "y": (None, "train", "8"),
            "z": ("0", "test", "9"),
        }  # fmt: skip


@row("`.git/`, `._1.png`, `__MACOSX/`, `Thumbs.db`, `@eaDir/`", "`notes.txt`")
def _(root):
    save(root, "a/1.png", "b/1.png", ".git/a/1.png", "a/._1.png", "__MACOSX/a/1.png",
         "a/@eaDir/1.png")  # fmt: skip
    (root / "a" / "Thumbs.db").write_bytes(b"")
    (root / "a" / "notes.txt").write_text("no image")
    dataset = folder.load(root, test_fraction=0)
    assert dataset.names.tolist() == ["a/1.png", "b/1.png"]
    assert dataset.notes[0] == "no images by their content, passed over: a/notes.txt"
    assert "hidden or of the system, not read: " in dataset.notes[1]


@row("`1_mask.png`")
def _(root):
    save(root, "a/1.png", "a/1_mask.png", "b/1.png", "b/old/1.png")
    kept = read(root, test_fraction=0, exclude=["*_mask.png", "b/old/*"])
    assert list(kept) == ["a/1.png", "b/1.png"]


@row("links")
def _(root):
    save(root, "root/a/1.png", "root/b/1.png", "other.png")
    (root / "root/a/2.png").symlink_to("../b/1.png")
    assert "a/2.png" in read(root / "root", test_fraction=0)
    (root / "root/a/3.png").symlink_to(root / "other.png")
    with pytest.raises(ValueError, match=r"a/3.png is a link out of the folder"):
        read(root / "root")


@row("copies of test images")
def _(root):
    save(root, "train/a/1.png", "train/a/2.png", "train/b/1.png")
    (root / "test/a").mkdir(parents=True)
    (root / "test/a/9.png").write_bytes((root / "train/a/2.png").read_bytes())
    assert "train/a/2.png of test/a/9.png" in folder.load(root).notes[0]
    assert "train/a/2.png" in read(root) and "train/a/2.png" not in read(root, duplicates="drop")


@row("`train/`, `test/`, `healthy/`")
def _(root):
    trees = [
        ["train/a/1.png", "train/b/1.png", "test/a/1.png", "healthy/1.png"],
        ["train/a/1.png", "train/b/1.png", "Test/a/1.png", "testing/a/1.png"],
        ["trainset/a/1.png", "testset/a/1.png"],
        ["images/1.png", "masks/1.png"],
        ["a/1.png", "b/1.png", "Unlabeled data/1.png"],
        ["a/1.png", "b/1.png", "c/a/1.png", "c/b/1.png"],
        ["train/a/1.png", "train/b/1.png", "test/c/1.png"],
        ["train/a/p1_1.png", "train/b/p2_1.png", "test/a/p1_2.png"],
    ]
    messages = [*["could mean two"] * 6, "of the class 'c'", "of one group"]
    for i, (names, message) in enumerate(zip(trees, messages, strict=True)):
        save(root / str(i), *names)
        with pytest.raises(ValueError, match=message):
            read(root / str(i), group_pattern=r"(p\d+)_" if i == 7 else None)


def decoded(root, write, **settings):
    """Images that ``write`` puts in a file, without an ending, of each of two classes."""
    for name in "ab":
        (root / name).mkdir()
        write(root / name / "1")
    return folder.load(root, test_fraction=0, **settings).images


@row("PNG, TIFF, BMP, GIF, WebP, PPM")
def _(root):
    for kind in ("PNG", "TIFF", "BMP", "GIF", "WebP", "PPM"):
        (root / kind).mkdir()
        lossless = {"lossless": True} if kind == "WebP" else {}
        images = decoded(
            root / kind,
            lambda path, kind=kind, more=lossless: Image.fromarray(pixels()).save(
                path, kind, **more
            ),
            image_size=4,
        )
        assert (images == pixels()).all(), kind
    (root / "deep").mkdir()
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 100
    deep = decoded(
        root / "deep", lambda path: Image.fromarray(values).save(path, "PNG"), image_size=8
    )
    low, high = np.percentile(values, (0.5, 99.5))
    expected = np.clip((values - low) / (high - low) * 255, 0, 255)
    np.testing.assert_allclose(deep[0, 0], expected, atol=0.51)
    windowed = folder.load(root / "deep", test_fraction=0, image_size=8, window=(0, 25500)).images
    np.testing.assert_allclose(windowed[0, 0], values / 100, atol=0.51)


@row("JPEG, JPEG 2000")
def _(root):
    for kind in ("JPEG", "JPEG2000"):
        (root / kind).mkdir()
        images = decoded(
            root / kind,
            lambda path, kind=kind: Image.fromarray(pixels(0, (8, 8))).save(path, kind),
            image_size=8,
        )
        with Image.open(root / kind / "a" / "1") as file:
            assert (images == np.asarray(file)).all()


@row("DICOM")
def _(root):
    values = np.arange(16, dtype=np.int16).reshape(4, 4) * 10
    for name, more, expected in (
        ("plain", {}, values),
        ("hu", {"RescaleSlope": 2, "RescaleIntercept": -100}, values * 2 - 100),
        ("inverted", {"PhotometricInterpretation": "MONOCHROME1"}, 32767 - 32768 - values),
    ):
        (root / name).mkdir()
        images = decoded(
            root / name,
            lambda path, more=more: write_slice(
                path, values, series=f"1.{len(str(path))}.{ord(path.parent.name)}", **more
            ),
            image_size=4,
            window=(-200, 310),
        )
        np.testing.assert_allclose(
            images[0, 0], np.clip((expected + 200) / 2, 0, 255), atol=0.51, err_msg=name
        )
    mask = np.ones((4, 4), np.uint8)
    write_dicom(root / "plain" / "a" / "mask", mask, sop_class=STORAGE + "66.4")
    assert len(folder.load(root / "plain", test_fraction=0).images) == 2


VOLUME = np.random.default_rng(0).integers(0, 256, (4, 5, 6)).astype(np.uint8)


@row("NIfTI, MetaImage, NRRD")
def _(root):
    for ending in ("nii", "nii.gz", "hdr", "mha", "mhd", "nrrd", "nhdr"):
        (root / ending).mkdir()
        images = decoded(
            root / ending,
            lambda path, ending=ending: sitk.WriteImage(
                sitk.GetImageFromArray(VOLUME), f"{path}.{ending}", ending in ("mha", "nrrd")
            ),
            image_size=(4, 5, 6),
        )
        assert (images == VOLUME).all(), ending


@row("transparency, several pages")
def _(root):
    clear = Image.fromarray(np.zeros((4, 4, 4), np.uint8), "RGBA")
    page = Image.fromarray(pixels())
    two = {"save_all": True, "append_images": [page]}
    nowhere = nibabel.Nifti1Image(VOLUME, None)
    stains = np.zeros((4, 4, 2), np.uint8)
    for name, write, message in (
        ("clear", lambda path: clear.save(path, "PNG"), "transparent"),
        (
            "pages",
            lambda path: page.save(path, "TIFF", **two),
            "pages",
        ),
        ("large", lambda path: path.write_bytes(b"P5 13400 13400 255\n"), "more than 178956970"),
        (
            "stains",
            lambda path: tifffile.imwrite(path, stains, photometric="minisblack", extrasamples=[0]),
            "channels beside grey|pixels of 2 x 8 bits",  # by the lowest version of Pillow
        ),
        ("nowhere", lambda path: nibabel.save(nowhere, f"{path}.nii"), "left from right"),
    ):
        (root / name).mkdir()
        with pytest.raises(ValueError, match=rf"a/1.* cannot be decoded: .*{message}"):
            decoded(root / name, write)


@row("volumes")
def _(root):
    """NIfTI's axes run to Right, Anterior and Superior, unless its matrix says otherwise."""
    right_anterior_superior = VOLUME[:, ::-1, ::-1].T
    flipped = right_anterior_superior[:, :, ::-1].transpose(2, 0, 1)
    matrix = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [-1, 0, 0, 3], [0, 0, 0, 1.0]])
    for name, values, affine in (
        ("ras", right_anterior_superior, np.eye(4)),
        ("flipped", flipped, matrix),
    ):
        (root / name).mkdir()
        images = decoded(
            root / name,
            lambda path, v=values, m=affine: nibabel.save(nibabel.Nifti1Image(v, m), f"{path}.nii"),
            image_size=(4, 5, 6),
        )
        assert (images == VOLUME).all(), name


@row("photographs")
def _(root):
    def write(path):
        exif = Image.Exif()
        exif[0x0112] = 6  # the top of the scene is at the right of what is stored
        Image.fromarray(pixels()).save(path, "PNG", exif=exif)

    assert (decoded(root, write, image_size=4) == np.rot90(pixels(), -1)).all()


@row("single slices")
def _(root):
    values = pixels().astype(np.int16)
    images = decoded(
        root,
        lambda path: write_slice(
            path, values, series=f"1.{ord(path.parent.name)}", axes=[-1, 0, 0, 0, -1, 0]
        ),
        image_size=4,
        window=(0, 255),
    )
    assert (images == pixels()).all()
