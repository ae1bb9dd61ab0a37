"""What a cell's ``config.json`` says of the task and of the program that runs it."""

import functools
import hashlib
import json
import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gymnasium as gym

from al_gym.config import ClassifierConfig, EnvConfig

PACKAGES = (
    "al-gym", "torch", "torchvision", "gymnasium", "stable-baselines3", "numpy", "SimpleITK",
    "scikit-activeml",
)  # fmt: skip
NOT_DECISIVE = ("images", "cuda_graphs")
"""Settings of the classifier that say how the same is computed, not what."""


def describe_task(env: gym.Env[Any, Any]) -> dict[str, Any]:
    """What the data are, and the settings in full."""
    run = env.get_wrapper_attr("run")
    classifier = asdict(run.classifier_config)
    start = run.config.initial_set
    listed = {"initial_file": digest(Path(start))} if start.lower().endswith(".csv") else {}
    return {
        **listed,
        "source": run.dataset.source,
        "fingerprint": run.dataset.fingerprint(),
        "notes": list(run.dataset.notes),
        **({"skipped": run.dataset.skipped} if run.dataset.skipped else {}),
        "class_names": list(run.dataset.class_names),
        "n_training": run.n_training,
        "max_steps": env.get_wrapper_attr("max_steps"),
        "environment": asdict(run.config),
        "classifier": {k: v for k, v in classifier.items() if k not in NOT_DECISIVE},
    }


def retraining(env: gym.Env[Any, Any]) -> str:
    """For how long ALL and ``--retrain-eval`` train a new classifier, in words."""
    run = env.get_wrapper_attr("run")
    if run.classifier_config.optimizer == "newton":
        return "to convergence, as after every query"
    if run.classifier_config.update == "scratch":
        return f"{run.classifier_config.pretrain_passes} passes, as after every query"
    return f"{run.online_gradient_steps} gradient steps, as an episode takes"


def completed(config: dict[str, Any]) -> dict[str, Any]:
    """A ``config.json`` with the settings that its program did not have yet, at their defaults."""
    return config | {
        part: values | config[part] for part, values in _defaults().items() if part in config
    }


@functools.cache  # asked for every cell of a run
def _defaults() -> dict[str, dict[str, Any]]:
    """All settings at their defaults, as JSON has them."""
    classifier = asdict(ClassifierConfig())
    decisive = {key: value for key, value in classifier.items() if key not in NOT_DECISIVE}
    both = {"environment": asdict(EnvConfig()), "classifier": decisive}
    found: dict[str, dict[str, Any]] = json.loads(json.dumps(both))
    return found


def describe_program(env: gym.Env[Any, Any]) -> dict[str, Any]:
    """What runs the task: versions, commit and device."""
    return {
        "versions": {
            "python": platform.python_version(),
            **{package: _version(package) for package in PACKAGES},
        },
        "commit": git_commit(),
        "device": device_name(env.get_wrapper_attr("run").classifier_config.device),
    }


def digest(path: Path) -> str:
    """32 hexadecimal digits of a file's content."""
    return hashlib.blake2b(path.expanduser().read_bytes(), digest_size=16).hexdigest()


def git_commit() -> str | None:
    """The commit of this program's checkout, with "+" if files were changed; None without one."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except OSError:
        return None
    if commit.returncode:
        return None
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")


def device_name(device: str) -> str:
    """The processor or graphics card that a classifier on ``device`` uses."""
    import torch  # here, as reading and planning need none

    if device == "cpu" or not torch.cuda.is_available():
        return f"CPU, {platform.machine()}"
    return torch.cuda.get_device_name(0 if device == "auto" else device)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # of an extra
        return None
