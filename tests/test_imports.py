"""The arrows of the design: who may import whom."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN = {
    "al_gym": {"agents", "benchmarks", "tests"},
    "agents": {"al_gym", "benchmarks", "envs_registry", "tests"},
    "benchmarks": {"tests"},
    "envs_registry.py": {"al_gym", "agents", "benchmarks", "tests"},
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("part", FORBIDDEN)
def test_arrows(part):
    place = ROOT / part
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    assert files
    for path in files:
        wrong = imported(path) & FORBIDDEN[part]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_the_two_sides_have_the_same_helper_for_names():
    """Neither may import the other, so each has a copy: of ten lines, and equal."""
    assert (ROOT / "al_gym/names.py").read_text() == (ROOT / "agents/names.py").read_text()
