"""What the README shows is run: Python blocks whole, commands with the smallest settings."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.matrix.methods import METHODS
from benchmarks.matrix.presets import PRESETS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_python_blocks(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the example saves an agent
    assert len(blocks("python")) >= 3
    namespace: dict = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), namespace)
    assert "labels, macro F1" in capsys.readouterr().out


def commands() -> list[str]:
    return [line for block in blocks("bash") for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("command", commands())
def test_commands(command, tmp_path):
    words = shlex.split(command)
    if words[:3] == ["python", "-m", "benchmarks.report"]:
        return  # run below, on what the command before it made
    if words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
        return
    assert words[:3] == ["python", "-m", "benchmarks.run"]
    small = ["--seeds", "1", "--budget", "0.07", "--methods", "ms", "all", "--out", str(tmp_path)]
    subprocess.run([sys.executable, *words[1:], *small], check=True, capture_output=True, cwd=ROOT)
    assert len(list(tmp_path.rglob("result.json"))) == 2
    subprocess.run(
        [sys.executable, "-m", "benchmarks.report", str(tmp_path)],
        check=True, capture_output=True, cwd=ROOT,
    )  # fmt: skip
    assert (tmp_path / "report" / "report.html").exists()


def test_presets_and_methods_are_in_the_tables():
    for preset in PRESETS:
        assert f"| `{preset}` |" in README
    for method in METHODS:
        assert f"`{method}`" in README


def test_every_id_is_in_the_table():
    import envs_registry

    for env_id in (envs_registry.env_id(name) for name in envs_registry.DATASETS):
        assert f"| `{env_id}` |" in README


def test_every_path_named_in_contributing_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for name in re.findall(r"^  (\w+\.py) ", text, re.MULTILINE):
        assert list(ROOT.glob(f"*/{name}")), name


def test_every_path_of_a_walk_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"`([a-z_]+/[\w/]+\.\w+)`", text)
    assert len(paths) > 12
    for path in paths:
        assert "<" in path or (ROOT / path).exists(), path
