"""What is said of classes beside their buttons."""

import io

import numpy as np
import pytest
from PIL import Image

from al_gym.annotate import guide

NAMES = ("node", "vessel wall")


def picture_of(shape, path):
    Image.fromarray(np.zeros(shape, np.uint8)).save(path)


def test_without_a_guide_nothing_is_said(tmp_path):
    assert guide.read(tmp_path, NAMES) == (guide.Entry("", b""),) * 2


def test_a_line_and_a_picture_of_a_class(tmp_path):
    folder = tmp_path / "guide"
    folder.mkdir()
    (folder / "node.txt").write_text("compact\nand more that is not shown\n")
    (folder / "vessel wall.txt").write_text("x" * 1000)
    picture_of((400, 1000), folder / "vessel wall.png")
    node, wall = guide.read(tmp_path, NAMES)
    assert node == guide.Entry("compact", b"")
    assert wall.text == "x" * guide.LONGEST
    with Image.open(io.BytesIO(wall.picture)) as image:
        assert image.size == (320, 128)  # made to fit


def test_files_that_are_for_no_class_or_cannot_be_read_are_named(tmp_path):
    folder = tmp_path / "guide"
    folder.mkdir()
    for name in ("nodes.txt", "node.jpg", "node"):
        (folder / name).touch()
        with pytest.raises(ValueError, match=rf"{name} is for no class.*node, vessel wall"):
            guide.read(tmp_path, NAMES)
        (folder / name).unlink()
    (folder / "node.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"node\.png"):
        guide.read(tmp_path, NAMES)
    (folder / "node.png").unlink()
    (folder / "node.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"node\.txt is not text"):
        guide.read(tmp_path, NAMES)
