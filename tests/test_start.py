"""What starting costs, in modules: registering ids and asking for help import nothing heavy."""

import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec

import pytest

HEAVY = ("torch", "torchvision", "SimpleITK", "torchmetrics", "stable_baselines3", "matplotlib")


def imported_by(code: str) -> list[str]:
    """The heavy modules that a new process has after running ``code``."""
    program = f"{code}\nimport sys\nprint('heavy', *[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize(
    "code",
    [
        "import al_gym",
        "import envs_registry",
        "from al_gym import EnvConfig, ClassifierConfig; EnvConfig(); ClassifierConfig()",
        "import al_gym, gymnasium; print(gymnasium.spec('ActiveLearning-chestCT-v0').id)",
    ],
)
def test_the_environment_is_registered_without_anything_heavy(code):
    assert imported_by(code) == []


@pytest.mark.parametrize(
    ("program", "lightest"),
    [
        ("run", HEAVY),
        ("query", HEAVY),
        ("report", tuple(name for name in HEAVY if name != "matplotlib")),
    ],
)
def test_help_is_shown_without_anything_heavy(program, lightest):
    code = f"import runpy, sys, contextlib\nsys.argv = ['{program}', '--help']\n"
    code += f"with contextlib.suppress(SystemExit): runpy.run_module('benchmarks.{program}', "
    assert not set(imported_by(code + "run_name='__main__')")) & set(lightest)


@pytest.mark.parametrize("name", HEAVY)
def test_what_is_heavy_is_installed(name):
    """The list would be empty for want of a module, too."""
    assert find_spec(name) is not None


@pytest.mark.slow
def test_what_is_heavy_comes_with_the_first_environment():
    assert "torch" in imported_by("from al_gym import ActiveLearningEnv")


def test_the_version_is_that_of_the_package():
    import al_gym

    assert al_gym.__version__ == version("al-gym")


def test_public_names_are_those_that_are_there():
    import al_gym

    assert {name for name in al_gym.__all__ if getattr(al_gym, name)} <= set(dir(al_gym))
    with pytest.raises(AttributeError, match="no attribute 'ActiveLearnignEnv'"):
        _ = al_gym.ActiveLearnignEnv
