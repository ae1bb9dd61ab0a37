"""requirements.lock has a version of every requirement of setup.cfg, and one that it allows."""

import configparser
import re
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCKED_EXTRAS = ("test", "lint", "docs")
"""What ``make`` installs into .venv."""
PYTHONS = ("3.10", "3.11", "3.12")
PINNED = re.compile(r"([\w.-]+)(?:\[[\w,-]+\])?==(\S+)(?: ; (.+?))? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def requirements() -> list[Requirement]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    texts = [setup["options"]["install_requires"]]
    texts += [setup["options.extras_require"][extra] for extra in LOCKED_EXTRAS]
    lines = [line.partition("#")[0].strip() for text in texts for line in text.splitlines()]
    return [Requirement(line) for line in lines if line]


def locked(python: str) -> dict[str, list[str]]:
    """Names to versions that the lock has for a Python on Linux."""
    here = {
        "python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux",
        "platform_machine": "x86_64", "platform_system": "Linux", "os_name": "posix",
        "implementation_name": "cpython", "platform_python_implementation": "CPython",
    }  # fmt: skip
    found: dict[str, list[str]] = {}
    for name, version, marker in PINNED.findall((ROOT / "requirements.lock").read_text()):
        if not marker or Marker(marker).evaluate(here):
            found.setdefault(canonicalize_name(name), []).append(version)
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_is_locked_at_a_version_that_it_allows(python):
    versions = locked(python)
    assert all(len(each) == 1 for each in versions.values())
    assert len(requirements()) > 40
    for each in requirements():
        if each.marker is None or each.marker.evaluate({"python_version": python}):
            (version,) = versions[canonicalize_name(each.name)]
            assert each.specifier.contains(version, prereleases=True), f"{each}: {version}"


def test_every_version_has_digests_and_nothing_else_is_in_the_lock():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    lines = [line for line in lines if not line.startswith("#")]
    for before, line in zip(["", *lines], lines, strict=False):
        if before.endswith("\\"):
            assert HASH.fullmatch(line), line
        else:
            assert PINNED.fullmatch(line), line


def test_what_make_installs_and_tests_has_lower_bounds():
    """The oldest versions of which something is known: those that ``make test-lowest`` installs."""
    for each in requirements():
        assert any(bound.operator == ">=" for bound in each.specifier), f"{each} has no lower bound"
