"""Presets are files; those of one's own are read as the built-in ones are."""

from pathlib import Path

import pytest

from benchmarks import run
from benchmarks.matrix import presets
from benchmarks.matrix.presets import PRESETS, Preset

MINE = """
dataset = "Folder"
methods = ["random", "ms"]

[settings]
query_size = 6
budget = 0.3
network = "auto"
"""


def test_the_built_in_ones_are_files_that_can_be_copied(tmp_path):
    for name, preset in PRESETS.items():
        copy = tmp_path / f"{name}.toml"
        copy.write_text((presets.FOLDER / copy.name).read_text())
        assert presets.find(str(copy)) == presets.find(name) == preset


def test_one_of_ones_own_is_run(tmp_path, folder_root):
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    config = run.RunConfig(tmp_path / "out", preset=(str(path),), root=folder_root, seeds=1)
    (experiment,) = run.plan(config)
    assert [method.name for method in experiment.methods] == ["random", "ms"]
    assert run.main(config) == 0
    assert len(list(config.out.rglob("result.json"))) == 2


def test_without_methods_they_are_those_that_the_paper_compares(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('dataset = "chestCT"')
    paper = ("random", "lc", "ms", "en", "fusion", "all", "drla")
    assert presets.read(path) == Preset("chestCT", {}, paper)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset = ", "mine.toml is not TOML"),
        ("\xff", "mine.toml is not TOML"),
        ("methods = ['ms']", "dataset must name a data set"),
        ("dataset = 3", "dataset must name a data set"),
        ("dataset = 'Folder'\nquery_size = 3", r"unknown key 'query_size'.*\[settings\]"),
        ("dataset = 'Folder'\nmethods = 'ms'", "methods must be a list of names"),
        ("dataset = 'Folder'\nmethods = [1]", "methods must be a list of names"),
        ("dataset = 'Folder'\nsettings = 1", "settings must be a table"),
    ],
)
def test_what_is_no_preset_is_named(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        presets.find(str(path))


def test_an_unknown_one_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="unknown preset 'embeded'.*mean 'embedded'"):
        presets.find("embeded")
    with pytest.raises(FileNotFoundError):
        presets.find(str(Path("nowhere") / "x.toml"))
