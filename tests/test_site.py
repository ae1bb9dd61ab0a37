"""``make docs``: the site is whole, loads nothing from elsewhere, and what is dead fails it."""

import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import agents
import al_gym

for package in ("mkdocs", "material", "mkdocstrings_handlers.python"):
    pytest.importorskip(package, reason="the site needs the extra docs")
ROOT = Path(__file__).resolve().parents[1]
SOURCES = (
    *(
        "mkdocs.yml",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "requirements.lock",
        "CITATION.cff",
        "LICENSE",
    ),
    *("envs_registry.py", "docs", "examples", "al_gym", "agents", "benchmarks"),
)
UNDOCUMENTED = """

BARE = 1


def bare(outcome: Outcome) -> float:
    return 0.0


def wrong(outcome: Outcome) -> float:
    '''A reward.

    Args:
        gone: of no parameter.
    '''
    return 0.0
"""


@pytest.fixture
def copy(tmp_path):
    """A copy of what the site is made of."""
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def built(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def test_the_site_is_whole_and_loads_nothing_from_elsewhere(copy):
    build = built(copy)
    assert build.returncode == 0, build.stderr

    site = copy / "site"
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="?([^" >]+)', page.read_text())
        loaded += re.findall(r'<link[^>]* href="?([^" >]+)[^>]*stylesheet', page.read_text())
        elsewhere = [place for place in loaded if re.match("(https?:)?//", place)]
        assert not elsewhere, page
    # file= of a block, and a link out of docs/
    assert (
        '<span class="filename">my_parts.py</span>' in (site / "docs/environment.html").read_text()
    )
    assert 'href="../benchmarks/RESULTS.html"' in (site / "docs/benchmarks.html").read_text()

    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    names = {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}
    public = {
        f"{package.__name__}.{name}" for package in (al_gym, agents) for name in package.__all__
    }
    assert public - names == {"al_gym.ActiveLearningEnv"}  # which the reference leads to:
    reference = (site / "docs/api/environment.html").read_text()
    assert 'href="../specification.html"' in reference


def test_what_is_dead_or_undocumented_fails_the_site(copy):
    settings = (copy / "mkdocs.yml").read_text()
    for costly in ("  - search\n", "            separate_signature: true\n"):
        assert costly in settings
        settings = settings.replace(costly, "")
    (copy / "mkdocs.yml").write_text(settings)
    append(copy / "README.md", "\n[gone](docs/gone.md)\n")
    append(copy / "benchmarks/RESULTS.md", "\n[gone](../docs/data.md#gone)\n")
    (copy / "docs" / "orphan.md").write_text("# In no navigation\n")
    append(copy / "al_gym" / "rewards.py", UNDOCUMENTED)
    build = built(copy)
    assert build.returncode != 0
    warnings = [line for line in build.stderr.splitlines() if line.startswith("WARNING")]
    for problem in (
        "'README.md' contains a link 'docs/gone.md', but the target is not found",
        "'benchmarks/RESULTS.md' contains a link '../docs/data.md#gone'",
        'not included in the "nav" configuration:',
        "al_gym.rewards.bare has no docstring",
        "al_gym.rewards.BARE has no docstring",
        "Parameter 'gone' does not appear in the function signature",
    ):
        assert any(problem in warning for warning in warnings), (problem, build.stderr)
    assert "docs/orphan.md" in build.stderr
