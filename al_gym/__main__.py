"""What is here, and whether it works.

    python -m al_gym
    python -m al_gym check ActiveLearning-Folder-v0 root=images query_size=10

The first lists versions, the device, the ids with the places of their data, and what extras lack.
The second makes an environment, runs the checkers of Gymnasium and of Stable-Baselines3 on it, and
says what a step costs and how long an episode will take.
"""

import argparse
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import Any

import envs_registry
from al_gym.config import parsed_setting

PACKAGES = ("torch", "torchvision", "gymnasium", "stable-baselines3", "numpy", "SimpleITK")
"""Those that decide results."""
N_TIMED = 5
"""Steps that are timed, after one that is not."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Show what is here, or check an environment; returns the exit status."""
    parser = argparse.ArgumentParser("python -m al_gym", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", metavar="check")
    checking = commands.add_parser("check", help="try an environment with settings of yours")
    checking.add_argument("id", help="such as ActiveLearning-Folder-v0")
    checking.add_argument("settings", nargs="*", metavar="key=value", help="of gymnasium.make")
    given = parser.parse_args(arguments)
    if given.command == "check":
        return check(given.id, given.settings)
    print("\n".join([*versions(), *device(), "", *ids(), "", *extras()]))
    return 0


# --- what is here ---------------------------------------------------------------------------------


def versions() -> list[str]:
    """Of Python, this package, and those that decide results."""
    own = f"al-gym {version('al-gym')}, Python {platform.python_version()}"
    return [own, ", ".join(f"{name} {version(name)}" for name in PACKAGES)]


def device() -> list[str]:
    """Where classifiers are trained, on how many threads, and how these wait for one another."""
    import torch  # here, as --help needs none

    name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU, no CUDA found"
    policy = os.environ.get("OMP_WAIT_POLICY", "not set")
    return [
        f"device {name}; threads {torch.get_num_threads()} on {os.cpu_count()} cores, "
        f"{torch.backends.cpu.get_cpu_capability()}; OMP_WAIT_POLICY {policy}"
    ]


def ids() -> list[str]:
    """Every id, and where its data was looked for."""
    from al_gym.data import cache, files, phantoms

    lines = []
    for dataset in envs_registry.DATASETS:
        folder = files.data_folder(dataset)
        place = "AL_GYM_DATA is not set: pass root="
        if folder is not None:
            place = f"{folder} ({'found' if folder.is_dir() else 'not there'})"
        if dataset in phantoms.GENERATORS:
            place += ", or generated with profile=embedded"
        lines.append(f"{envs_registry.env_id(dataset):30} {place}")
    return [*lines, f"{'cache':30} {cache.cache_folder()}"]


def extras() -> list[str]:
    """What each extra of the package lacks."""
    from packaging.requirements import Requirement

    lines = []
    for extra in metadata("al-gym").get_all("Provides-Extra") or []:
        needed = [
            requirement.name
            for requirement in map(Requirement, requires("al-gym") or [])
            if requirement.marker is not None
            and requirement.marker.evaluate({"extra": extra})
            and not requirement.marker.evaluate({"extra": ""})
        ]
        lacking = [name for name in needed if not _is_installed(name)]
        lines.append(
            f"extra {extra:24} {'lacks ' + ', '.join(lacking) if lacking else 'installed'}"
        )
    return lines


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


# --- whether it works -----------------------------------------------------------------------------


def check(env_id: str, settings: Sequence[str]) -> int:
    """Make an environment, let two checkers look at it, and time its steps; the exit status.

    Args:
        env_id: as of ``gymnasium.make``.
        settings: ``"key=value"`` each.
    """
    import gymnasium as gym
    from gymnasium.utils import env_checker
    from stable_baselines3.common import env_checker as sb3

    try:
        env = gym.make(env_id, **dict(parsed_setting(each, "check") for each in settings))
    except (gym.error.Error, ValueError, TypeError, OSError, ImportError) as error:
        print(f"{env_id} cannot be made: {error}", file=sys.stderr)
        return 1
    checkers = {
        "Gymnasium": lambda: env_checker.check_env(env, skip_render_check=True),
        "Stable-Baselines3": lambda: sb3.check_env(env),
    }
    failed = False
    for name, run in checkers.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of spaces that are no images and not symmetric
            try:
                run()
            except Exception as error:  # whatever a checker finds
                failed = True
                print(f"{name}'s checker: {type(error).__name__}: {error}")
            else:
                print(f"{name}'s checker finds nothing wrong.")
    print(_costs(env))
    return int(failed)


def _costs(env: Any) -> str:
    """What a step costs, and an episode, in a sentence."""
    run, max_steps = env.get_wrapper_attr("run"), env.get_wrapper_attr("max_steps")
    before = time.perf_counter()
    env.reset(seed=0)
    times = [time.perf_counter() - before]
    for _ in range(min(1 + N_TIMED, max_steps)):
        before = time.perf_counter()
        env.step(env.action_space.sample())
        times.append(time.perf_counter() - before)
    reset, first, *others = times
    step = statistics.median(others or [first])
    return (
        f"A reset takes {reset:.2g} s, and a step {step:.2g} s with "
        f"{len(run.episode.pool.labelled)} of {run.n_training} images labelled, more as these "
        f"grow. An episode of {max_steps} steps takes {reset + max_steps * step:.2g} s at least."
    )


if __name__ == "__main__":
    sys.exit(main())
