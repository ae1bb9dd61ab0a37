"""What is wrong with a file can be told from a wrong argument."""

import numpy as np
import pytest

from agents.checkpoint import read
from al_gym.annotate.model import SavedModel
from al_gym.data import chestct, folder, formats, medmnist, retinopathy
from al_gym.errors import CheckpointError, DataError
from benchmarks.matrix import presets


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        ("a.csv", chestct.read_annotations),
        ("a.csv", retinopathy.read_labels),
        *[(f"a.{ending}", lambda path: formats.read(path, 1)) for ending in formats.ENDINGS],
        ("a.png", formats.header),
        ("a.jpeg", lambda path: retinopathy.read_photograph(path, 8)),
        ("x.npz", lambda path: medmnist.load(path.parent, flag="x")),
        ("x.npz", folder.load),
        ("a.toml", presets.read),
    ],
)
def test_files_of_data(tmp_path, name, reads):
    path = write(tmp_path / name, b"\x93no such format\n" * 3)
    with pytest.raises(DataError, match=name):
        reads(path)


def test_files_of_our_own(tmp_path):
    path = write(tmp_path / "model.safetensors", b"\x93no such format\n" * 3)
    with pytest.raises(CheckpointError, match=str(path)):
        SavedModel(path)
    with pytest.raises(CheckpointError, match=str(path)):
        read(path)


def test_arguments_are_no_files(tmp_path):
    images = np.zeros((4, 8, 8), np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=[0, 1, 0, 1])
    for wrong in ({"window": (1, 0)}, {"group_pattern": "("}, {"exclude": ["x"]}):
        with pytest.raises(ValueError) as raised:
            folder.load(tmp_path, **wrong)
        assert raised.type is ValueError
    with pytest.raises(ValueError) as raised:
        medmnist.load(tmp_path, flag="../x")
    assert raised.type is ValueError
