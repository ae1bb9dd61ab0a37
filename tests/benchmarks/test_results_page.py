"""benchmarks/RESULTS.md is one page, whose links, numbers and commands hold."""

import re
import shlex
from pathlib import Path

import pytest
import tyro

from benchmarks import ablation, annotators, ladder, report, run, sb3_parity, speed, train_policy
from benchmarks.matrix.methods import METHODS
from benchmarks.matrix.presets import PRESETS

PAGE = Path(__file__).parents[2] / "benchmarks" / "RESULTS.md"
FOLDER = PAGE.with_name("results")
FILES = sorted(FOLDER.glob("*.md"))
SETTINGS = {
    "ablation": ablation.AblationConfig,
    "annotators": annotators.AnnotatorsConfig,
    "ladder": ladder.LadderConfig,
    "report": report.ReportConfig,
    "run": run.RunConfig,
    "sb3_parity": sb3_parity.Settings,
    "speed": speed.SpeedConfig,
    "train_policy": train_policy.TrainConfig,
}


def linked(path: Path) -> set[Path]:
    """Files of this repository that a page links to or shows."""
    targets = re.findall(r"\]\(([^)#]+)", path.read_text())
    return {(path.parent / each).resolve() for each in targets if "://" not in each}


def test_it_is_one_page():
    lines = PAGE.read_text().splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("path", [PAGE, *FILES], ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    assert linked(path)
    assert not [each for each in linked(path) if not each.exists()]


def test_every_file_is_linked_and_every_figure_shown():
    assert set(FILES) <= linked(PAGE)
    assert all(PAGE in linked(path) for path in FILES)
    assert set(FOLDER.glob("*.png")) <= set.union(*(linked(path) for path in FILES))


def numbers(path: Path) -> set[str]:
    return set(re.findall(r"\d+\.\d+", path.read_text()))


def test_every_number_of_the_page_is_in_a_file():
    assert len(numbers(PAGE)) > 100
    assert numbers(PAGE) <= set.union(*map(numbers, FILES))


def commands() -> list[tuple[str, list[str]]]:
    """Each command on the page: its module in benchmarks, and its arguments."""
    text = PAGE.read_text().replace("\\\n", " ")
    found = re.findall(r"python -m benchmarks\.(\w+)([^&`\n]*)", text)
    return [(module, shlex.split(arguments)) for module, arguments in found]


@pytest.mark.parametrize(("module", "arguments"), commands())
def test_commands_are_those_of_today(module, arguments):
    config = tyro.cli(SETTINGS[module], args=arguments)
    if isinstance(config, run.RunConfig):
        assert set(config.methods) <= set(METHODS)
        assert set(config.preset) <= set(PRESETS)


def test_every_program_that_measures_has_its_command():
    assert {module for module, _ in commands()} == set(SETTINGS)
