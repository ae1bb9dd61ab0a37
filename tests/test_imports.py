"""The arrows of the design: who may import whom."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = {"al_gym.durable", "al_gym.errors"}
"""What all of them may import: it is about files alone, and imports the standard library alone."""
FORBIDDEN = {
    "al_gym": {"agents", "benchmarks", "tests"},
    "agents": {"al_gym", "benchmarks", "envs_registry", "tests"},
    "benchmarks": {"tests"},
    "envs_registry.py": {"al_gym", "agents", "benchmarks", "tests"},
}


def imported(path: Path) -> set[str]:
    """Packages whose modules a file imports, those of ``SHARED`` apart."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            is_shared = {f"{node.module}.{alias.name}" for alias in node.names} <= SHARED
            names |= set() if is_shared else {node.module}
    return {name.split(".")[0] for name in names - SHARED}


@pytest.mark.parametrize("part", FORBIDDEN)
def test_arrows(part):
    place = ROOT / part
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    assert files
    for path in files:
        wrong = imported(path) & FORBIDDEN[part]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("module", sorted(SHARED))
def test_what_all_share_knows_nothing_of_the_project(module):
    path = ROOT / (module.replace(".", "/") + ".py")
    assert imported(path) <= sys.stdlib_module_names


def test_the_two_sides_have_the_same_helper_for_names():
    """Neither may import the other, so each has a copy: of ten lines, and equal."""
    assert (ROOT / "al_gym/names.py").read_text() == (ROOT / "agents/names.py").read_text()
