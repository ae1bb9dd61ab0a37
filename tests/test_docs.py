"""What README and docs/ show is run, in order: Python whole, commands as small as they can be.

tests/clients does this for docs/clients.md, whose programs are not all installed.
"""

import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import envs_registry
from benchmarks.matrix.methods import METHODS
from benchmarks.matrix.presets import PRESETS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = {page.name: page.read_text() for page in PAGES}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder of a reader.

    It has images of three classes and 30 patients, and the same as scans, most of them in no class.
    """
    rng = np.random.default_rng(0)
    for number in range(120):
        name = ("dark", "light", "middle")[number % 3]
        pixels = np.clip(60 + 50 * (number % 3) + rng.normal(0, 40, (32, 32, 3)), 0, 255)
        places = {"images": name, "scans": name if number < 30 else "unlabelled"}
        for root, folder in places.items():
            path = tmp_path / root / folder / f"p{number // 4:03}_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("my_parts", "my_strategy", "my_methods"):
        sys.modules.pop(name, None)


def blocks(page: str) -> list[tuple[str, str | None, str]]:
    """Language, file name if it has one, and text of every block of a page."""
    found = re.findall(
        r"^```(\w+)(?: file=(\S+))?\n(.*?)^```", TEXT[page], re.MULTILINE | re.DOTALL
    )
    return [(language, name or None, text) for language, name, text in found]


LONG = ("agents.md", "benchmarks.md")
"""Pages that take a minute or more."""


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page in LONG else [])
        for page in TEXT
        if page != "clients.md"
    ],
)
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")  # of runpy
def test_a_page_does_what_it_says(page, folder, monkeypatch, request):
    if page not in LONG:  # whose commands start processes, with the settings of the files
        request.getfixturevalue("few_scans")
    namespace: dict = {"__name__": "page"}
    for language, name, text in blocks(page):
        if name is not None:
            (folder / name).write_text(text)
        elif language == "python":
            exec(compile(text, page, "exec"), namespace)
        elif language == "bash":
            for line in filter(str.strip, text.splitlines()):
                run_small(line, monkeypatch)


def run_small(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command of a page in this process, which has imported PyTorch.

    Experiments have a seed, and as few steps as will do.
    """
    words = shlex.split(line)
    if words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
        return
    assert words[:2] == ["python", "-m"]
    if words[2] == "benchmarks.run":
        words += ["--seeds", "1", "--budget", "0.2" if "images" in words else "0.07"]
        words += [] if {"--methods", "mine.toml"} & set(words) else ["--methods", "ms", "all"]
    if words[2] == "al_gym.annotate":  # which would serve until it is stopped
        words += ["--export"]
    monkeypatch.setattr(sys, "argv", words[2:])
    try:
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        assert not ended.code, line
    if words[2] == "benchmarks.run":
        assert list(Path(words[words.index("--out") + 1]).rglob("result.json"))


def test_the_readme_is_read_in_one_sitting():
    assert len(TEXT["README.md"].splitlines()) <= 120


@pytest.mark.parametrize("page", [*TEXT, "CONTRIBUTING.md"])
def test_links_lead_somewhere(page):
    path = ROOT / page if (ROOT / page).exists() else ROOT / "docs" / page
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_presets_methods_and_ids_are_in_the_tables():
    for preset in PRESETS:
        assert f"| `{preset}` |" in TEXT["benchmarks.md"]
    for method in METHODS:
        assert f"`{method}`" in TEXT["benchmarks.md"]
    for env_id in map(envs_registry.env_id, envs_registry.DATASETS):
        assert f"| `{env_id}` |" in TEXT["data.md"]


def test_help_names_every_preset_and_method():
    source = (ROOT / "benchmarks" / "run.py").read_text()
    for name in (*PRESETS, *METHODS):
        assert re.search(rf"[ \n\"]{re.escape(name)}[ \n;:.]", source), name


def test_every_path_named_in_contributing_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    layout = re.search(r"```text\n(.*?)```", text, re.DOTALL)
    assert layout is not None
    folders = [ROOT]
    for line in layout[1].splitlines():
        depth, name = len(line) - len(line.lstrip()), line.split()[0]
        folders = folders[: depth // 2 + 1]
        path = folders[-1] / name
        assert path.exists(), path
        if name.endswith("/"):
            folders.append(path)


def test_every_path_of_a_walk_is_there():
    paths = re.findall(r"`([a-z_]+/[\w/]+\.\w+)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(paths) > 12
    for path in paths:
        assert (ROOT / path).exists(), path
