"""The public names, which are imported when they are first used."""

import subprocess
import sys

import pytest

import agents


def modules_after(code):
    program = f"{code}\nimport sys\nprint('torch' in sys.modules, 'gymnasium' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("code", ["import agents", "from agents import names, strategies"])
def test_what_needs_no_torch_imports_none(code):
    assert modules_after(code) == ["False", "False"]


def test_an_agent_brings_torch():
    assert modules_after("from agents import DDPG") == ["True", "True"]


def test_every_public_name_is_there():
    assert all(getattr(agents, name).__name__ == name for name in agents.__all__)
    assert set(agents.__all__) <= set(dir(agents))
    with pytest.raises(AttributeError, match="no attribute 'DPG'"):
        _ = agents.DPG
