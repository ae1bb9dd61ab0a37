"""What is kept of a cell, and what of an older program still counts."""

import json

import pytest

from al_gym.errors import CheckpointError
from benchmarks.matrix import layout


def test_a_folder_that_got_somewhere_keeps_its_config(tmp_path):
    folder = tmp_path / "cell"
    layout.create(folder, {"seed": 1})
    layout.create(folder, {"seed": 2})
    assert layout.read_config(folder / layout.CONFIG) == {"seed": 2}
    (folder / layout.CHECKPOINT).touch()
    layout.create(folder, {"seed": 3})
    assert layout.read_config(folder / layout.CONFIG) == {"seed": 2}


def test_a_torn_config_is_named(tmp_path):
    path = tmp_path / layout.CONFIG
    path.write_text(json.dumps({"seed": 1})[:-1])
    with pytest.raises(CheckpointError, match=r"config.json cannot be read"):
        layout.read_config(path)


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"7",
        b'{"seed": "1"}',
        b'{"seed": true}',
        b'{"versions": []}',
        b"\xff{}",
        b"[" * 10**5,
    ],
)
def test_a_config_of_other_things_is_named(tmp_path, content):
    path = tmp_path / layout.CONFIG
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config.json cannot be read"):
        layout.read_config(path)


def test_one_image_is_not_all_of_them():
    records = [{"environment": {"budget": b, "query_size": 1}} for b in (1, 1.0)]
    found = layout.difference(*records, ("environment",))
    assert found == "environment.budget 1 there, 1.0 here"
    rates = [{"classifier": {"learning_rate": rate}} for rate in (1, 1.0)]
    assert layout.difference(*rates, ("classifier",)) == ""
