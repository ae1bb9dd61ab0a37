"""The blood cells from a checkout of two drawn photographs."""

import numpy as np
import pytest
from PIL import Image

from al_gym.data import READERS
from benchmarks import bccd_cells
from benchmarks.bccd_cells import CellsConfig, square

BOX = (
    "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>"
    "<ymax>{}</ymax></bndbox></object>"
)


@pytest.fixture
def checkout(tmp_path):
    root = tmp_path / "BCCD_Dataset" / "BCCD"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    boxes = [("WBC", 10, 10, 90, 70), ("RBC", 100, 20, 148, 68), ("Platelets", 5, 5, 5, 30)]
    rng = np.random.default_rng(0)
    for number, split in enumerate(("train", "val", "test")):
        name = f"BloodImage_0000{number}"
        pixels = rng.integers(0, 256, (120, 160, 3), np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        text = "".join(BOX.format(*box) for box in boxes)
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{text}</annotation>")
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text(f"{name}\n")
    return root.parent


def test_the_file_is_one_that_the_reader_reads(checkout, tmp_path, capsys):
    bccd_cells.main(CellsConfig(checkout, tmp_path / "out"))
    with np.load(tmp_path / "out" / "bccd_cells_48.npz", allow_pickle=False) as arrays:
        for split, number in (("train", 0), ("val", 1), ("test", 2)):
            assert arrays[f"{split}_images"].shape == (2, 48, 48, 3)
            assert arrays[f"{split}_labels"].tolist() == [[0], [1]]  # the third has no area
            assert arrays[f"{split}_image_ids"].tolist() == [number, number]
        # a box of 48 pixels is the photograph itself
        path = checkout / "BCCD" / "JPEGImages" / "BloodImage_00000.jpg"
        photograph = np.asarray(Image.open(path).convert("RGB"))
        np.testing.assert_array_equal(arrays["train_images"][1], photograph[20:68, 100:148])
    dataset = READERS["MedMNIST"](tmp_path / "out", flag="bccd_cells", size=48)
    assert dataset.images.shape[1:] == (3, 48, 48) and len(dataset.train) == 2
    again = tmp_path / "again"
    bccd_cells.main(CellsConfig(checkout, again, tmp_path / "out" / "bccd_cells_48.npz"))
    said = capsys.readouterr().out
    assert "train_images: 0.00 grey levels apart" in said
    assert "test_labels: 0 of 2 differ" in said


def test_a_square_goes_beyond_the_photograph_by_its_edge():
    photograph = np.arange(60 * 80, dtype=np.uint8).reshape(60, 80, 1).repeat(3, 2)
    found = square(photograph, 0, 10, 24, 58)  # 24 wide, 48 high: columns -12 to 36
    np.testing.assert_array_equal(found[:, 12:], photograph[10:58, :36])
    np.testing.assert_array_equal(found[:, :12], photograph[10:58, :1].repeat(12, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", "BloodImage_00000.xml cannot be read"),
        (BOX.format("WBC", "x", 1, 9, 9), "cannot be read"),
        (BOX.format("Ghost", 1, 1, 9, 9), "a box of class 'Ghost', known are WBC RBC Platelets"),
        ("<object><name>RBC</name></object>", "cannot be read"),
    ],
)
def test_annotations_that_are_none_are_named(checkout, tmp_path, text, message):
    path = checkout / "BCCD" / "Annotations" / "BloodImage_00000.xml"
    path.write_text(f"<annotation>{text}</annotation>")
    with pytest.raises(ValueError, match=message):
        bccd_cells.main(CellsConfig(checkout, tmp_path))
    assert not list(tmp_path.glob("*.npz"))


def test_a_folder_that_is_none_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train\.txt"):
        bccd_cells.main(CellsConfig(tmp_path, tmp_path))


def test_differences_name_what_is_missing():
    ours = {"train_labels": np.zeros((2, 1)), "train_images": np.zeros((2, 4, 4, 3), np.uint8)}
    theirs = {"train_images": np.zeros((3, 4, 4, 3), np.uint8)}
    first, second = bccd_cells.differences(ours, theirs)
    assert first == "train_labels: (2, 1) here, missing there"
    assert second == "train_images: (2, 4, 4, 3) here, (3, 4, 4, 3) there"


def test_entities_are_not_expanded(checkout):
    """A billion times "lol", of a few hundred bytes."""
    path = checkout / "BCCD" / "Annotations" / "BloodImage_00000.xml"
    lines = [f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(9)]
    path.write_text(f'<!DOCTYPE x [<!ENTITY a0 "lol">{"".join(lines)}]><x>&a9;</x>')
    with pytest.raises(ValueError, match=r"00000.xml cannot be read: it declares entities"):
        list(bccd_cells.cells_of(checkout / "BCCD", "BloodImage_00000"))
