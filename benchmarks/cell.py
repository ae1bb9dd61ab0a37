"""One cell of an experiment: a data set, a method and a seed, in a folder of its own.

``config.json`` says what to run, so a folder is all that a process needs to know:

    python -m benchmarks.cell runs/first/chestCT/ms/seed0

It writes ``curve.csv``, a line a step, each on disk before the next step begins, and every few
steps ``checkpoint.safetensors`` with everything that decides how the cell goes on. Run again, it
goes on from there, and its curve ends as if nothing had happened. ``result.json`` marks the end;
``error.txt`` holds what stopped it, in a line and in full.
"""

import contextlib
import csv
import io
import json
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
import torch
from filelock import FileLock, Timeout

import envs_registry
from agents import checkpoint
from al_gym import ActiveLearningVectorEnv
from benchmarks import methods

FORMAT = 2
"""Of a cell's folder; raised when an older program could not go on with it."""
COLUMNS = (
    "step", "n_labelled", "labelled_fraction", "macro_f1", "micro_f1", "reward",
    "selected", "class_counts", "retrained_macro_f1", "retrained_micro_f1",
    "acquisition_seconds", "training_seconds",
)  # fmt: skip
"""Of ``curve.csv``. The line of step 0 is the start: it has no reward, and its training seconds are
those of the reset. ``selected`` are the data-set rows just annotated, best score first, and
``class_counts`` the labelled samples of each class. The retrained columns are empty where no
classifier was trained from scratch. Acquisition seconds are the method's own: choosing and, if it
learns, learning. Training seconds are the environment's; of cells that run side by side, they are
those of all of them and of waiting for one another."""
CONFIG, CURVE, RESULT = "config.json", "curve.csv", "result.json"
CHECKPOINT, START, ERROR = "checkpoint.safetensors", "start.txt", "error.txt"
LOCK = "lock"
"""Names of a cell's files."""
SHARED = ("dataset", "fingerprint", "environment", "classifier", "threads", "retrain_at")
"""Keys of ``config.json`` that decide a curve and are the same for all methods compared."""
PACKAGES = (
    "al-gym", "torch", "torchvision", "gymnasium", "stable-baselines3", "numpy", "SimpleITK",
    "scikit-activeml",
)  # fmt: skip


def difference(there: dict[str, Any], here: dict[str, Any], keys: Sequence[str]) -> str:
    """How two ``config.json`` differ in ``keys``, in words; empty if they do not."""
    ours, theirs = (_flat({key: config.get(key) for key in keys}) for config in (here, there))
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    shown = [f"{name} {theirs.get(name)!r} there, {ours.get(name)!r} here" for name in names[:5]]
    return "; ".join(shown) + (f"; and {len(names) - 5} more" if len(names) > 5 else "")


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves of nested dictionaries by their path, such as ``environment.query_size``."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= _flat(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = value
    return leaves


def make_environment(config: dict[str, Any]) -> gym.Env[Any, Any]:
    """The environment that a ``config.json`` asks for."""
    return gym.make(_environment_id(config), **config["settings"])


def make_vector_environment(config: dict[str, Any], n: int) -> ActiveLearningVectorEnv:
    """As many of them, over one copy of the images."""
    vector = gym.make_vec(
        _environment_id(config), n, "vector_entry_point", **config["settings"]
    ).unwrapped
    assert isinstance(vector, ActiveLearningVectorEnv)
    return vector


def _environment_id(config: dict[str, Any]) -> str:
    envs_registry.profiles(config["dataset"])  # raises for a data set that is not known
    return envs_registry.env_id(config["dataset"])


def describe_task(env: gym.Env[Any, Any]) -> dict[str, Any]:
    """What the data are, and the settings in full."""
    run = env.get_wrapper_attr("run")
    dataset, classifier = run.dataset, asdict(run.classifier_config)
    for name in ("images", "cuda_graphs"):  # how the same is computed, not what
        del classifier[name]
    return {
        "source": dataset.source,
        "fingerprint": dataset.fingerprint(),
        "class_names": list(dataset.class_names),
        "n_training": run.n_training,
        "max_steps": env.get_wrapper_attr("max_steps"),
        "environment": asdict(run.config),
        "classifier": classifier,
    }


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
    if device == "cpu" or not torch.cuda.is_available():
        return f"CPU, {platform.machine()}"
    return torch.cuda.get_device_name(0 if device == "auto" else device)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # of an extra
        return None


def create(folder: Path, config: dict[str, Any]) -> None:
    """Make a cell's folder; one that has got somewhere keeps the ``config.json`` it began with."""
    folder.mkdir(parents=True, exist_ok=True)
    if not any((folder / name).exists() for name in (RESULT, CHECKPOINT)):
        _write(folder / CONFIG, json.dumps(config, indent=2))


class Recorder(gym.Wrapper[Any, Any, Any, Any]):
    """Writes a line of ``curve.csv`` for the start and for every step of the first episode.

    Args:
        env: the environment.
        config: the cell's.
        folder: of the cell.
    """

    def __init__(self, env: gym.Env[Any, Any], config: dict[str, Any], folder: Path) -> None:
        super().__init__(env)
        self._folder, self._method = folder, config["method"]
        self._run = env.get_wrapper_attr("run")
        self._retrain_at = list(config["retrain_at"])
        self._lines: list[str] = []
        self._start_is_checked = False
        self._since = time.perf_counter()
        self.over = False

    @property
    def n_steps(self) -> int:
        """Steps recorded so far."""
        return max(0, len(self._lines) - 2)

    def state_dict(self) -> dict[str, Any]:
        """The curve so far."""
        return {"lines": self._lines, "retrain_at": self._retrain_at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Make the curve what it was."""
        self._lines, self._retrain_at = state["lines"], state["retrain_at"]
        (self._folder / CURVE).write_text("".join(self._lines))

    def start_clock(self) -> None:
        """Count the method's seconds from now."""
        self._since = time.perf_counter()

    def reset(self, **settings: Any) -> tuple[Any, dict[str, Any]]:
        """Reset, and write the start if it is the first."""
        before = time.perf_counter()
        observation, info = self.env.reset(**settings)
        if not self._start_is_checked:
            _check_start(self._folder, self._run.start_fingerprint())
            self._start_is_checked = True
        if not self._lines:
            (self._folder / CURVE).write_text("")
            self._append(COLUMNS)
            if self._method == "all":
                info = self._fully_supervised()
                self.over = True
            self._record(info, "", 0.0, time.perf_counter() - before)
        self.start_clock()
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step, and write what it brought."""
        before = time.perf_counter()
        observation, reward, terminated, truncated, info = self.env.step(action)
        if not self.over:
            self.over = terminated
            self._record(info, reward, before - self._since, time.perf_counter() - before)
        self.start_clock()
        return observation, reward, terminated, truncated, info

    def _record(
        self, info: dict[str, Any], reward: Any, acquisition: float, training: float
    ) -> None:
        pool, n_classes = self._run.episode.pool, self._run.dataset.n_classes
        rows = pool.indices[info["selected"]]
        counts = info.get("class_counts", np.bincount(pool.labels, minlength=n_classes))
        self._append([
            len(self._lines) - 1, *(info[name] for name in COLUMNS[1:5]), reward,
            " ".join(map(str, rows)), " ".join(map(str, counts)), *self._retrained(info),
            f"{acquisition:.4f}", f"{training:.4f}",
        ])  # fmt: skip

    def _retrained(self, info: dict[str, Any]) -> tuple[Any, Any]:
        """Macro and micro F1 of a classifier trained from scratch, where that is due."""
        due = [f for f in self._retrain_at if f <= info["labelled_fraction"] + 1e-9]
        if not due:
            return "", ""
        self._retrain_at = [f for f in self._retrain_at if f not in due]
        if self._method == "all":
            return info["macro_f1"], info["micro_f1"]
        scores = self._run.evaluate_retrained()
        return scores.macro_f1, scores.micro_f1

    def _fully_supervised(self) -> dict[str, Any]:
        """The ``info`` of ALL: what a classifier trained on everything scores."""
        scores = self._run.evaluate_fully_supervised()
        labels = self._run.dataset.labels[self._run.task.training]
        return {
            "n_labelled": self._run.n_training,
            "labelled_fraction": 1.0,
            "macro_f1": scores.macro_f1,
            "micro_f1": scores.micro_f1,
            "selected": np.array([], int),
            "class_counts": np.bincount(labels),
        }

    def _append(self, values: Sequence[Any]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(values)
        with (self._folder / CURVE).open("a") as file:  # closed, so flushed, before the next step
            file.write(text.getvalue())
        self._lines.append(text.getvalue())


def run(
    folder: Path, say: Callable[[str], None] = print, env: gym.Env[Any, Any] | None = None
) -> None:
    """Run the cell of a folder, from its checkpoint if it has one.

    Args:
        folder: with ``config.json``.
        say: told what a person should know.
        env: an environment as ``config.json`` asks for; None: made now.

    Raises:
        RuntimeError: this method's start is not that of the others on this seed.
        Exception: whatever stops the method; the last checkpoint stays.
    """
    config = json.loads((folder / CONFIG).read_text())
    with _only_process(folder, say), threads(config["threads"]):
        if not (folder / RESULT).exists():
            _run(folder, config, say, env or make_environment(config))


def _run(
    folder: Path, config: dict[str, Any], say: Callable[[str], None], env: gym.Env[Any, Any]
) -> None:
    for left in (folder / ERROR, *folder.glob("*.tmp")):
        left.unlink(missing_ok=True)
    changed = difference(
        config,
        json.loads(json.dumps(describe_task(env))),
        ("fingerprint", "environment", "classifier"),
    )
    if changed:
        raise RuntimeError(f"data or settings are not what {CONFIG} says: {changed}")
    recorder = Recorder(env, config, folder)
    player = methods.make(config["method"], recorder, config["seed"], config["agent"])
    if (folder / CHECKPOINT).exists():
        saved = checkpoint.read(folder / CHECKPOINT)
        lines = saved["recorder"]["lines"]
        say(f"{folder}: goes on from step {len(lines) - 2}{_damage(folder / CURVE, lines)}")
        recorder.load_state_dict(saved["recorder"])
        player.reset()
        env.get_wrapper_attr("run").load_state_dict(saved["env"])
        player.load_state_dict(saved["player"])
        recorder.start_clock()
    last = recorder.n_steps

    def after_step() -> None:
        nonlocal last
        if recorder.n_steps - last >= config["checkpoint_every"] and not recorder.over:
            last = recorder.n_steps
            parts = {
                "recorder": recorder.state_dict(),
                "env": env.get_wrapper_attr("run").state_dict(),
                "player": player.state_dict(),
            }
            checkpoint.write(folder / CHECKPOINT, parts)
            recorder.start_clock()

    player.play(after_step)
    if not recorder.over:
        raise RuntimeError(f"the method stopped after {recorder.n_steps} steps, before the budget")
    _write(folder / RESULT, json.dumps({"steps": recorder.n_steps}))
    (folder / CHECKPOINT).unlink(missing_ok=True)


def attempt(
    folder: Path, say: Callable[[str], None] = print, env: gym.Env[Any, Any] | None = None
) -> str | None:
    """``run``, but what stops the cell goes to ``error.txt``; returns it in a line."""
    try:
        run(folder, say, env)
    except Exception as error:
        message = str(error).strip() or "no message"
        problem = f"{type(error).__name__}: {message.splitlines()[0]}"
        with contextlib.suppress(OSError):  # the disk may be what is wrong
            (folder / ERROR).write_text(f"{problem}\n\n{traceback.format_exc()}")
        return problem
    return None


@contextlib.contextmanager
def _only_process(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Wait for another process, such as one whose parent was killed, that runs the same cell."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"{folder}: another process runs this cell; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """PyTorch on ``n`` threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_start(folder: Path, fingerprint: str) -> None:
    """All methods of a seed begin with the same labelled set and the same weights.

    Raises:
        RuntimeError: they do not.
    """
    for other in sorted(folder.parents[1].glob(f"*/{folder.name}/{START}")):
        if other.read_text() != fingerprint:
            raise RuntimeError(
                f"the start of {folder} is not that of {other.parent}: they cannot be compared. "
                "Were they run on the same machine, with the same versions? Use another --out"
            )
    _write(folder / START, fingerprint)


def _damage(curve: Path, lines: list[str]) -> str:
    """What is to be said of a curve that the checkpoint's ``lines`` are about to replace."""
    found = curve.read_text(errors="replace") if curve.exists() else ""
    if not found.startswith("".join(lines)):
        return f"; {CURVE} was damaged and is repaired from the checkpoint"
    if not found.endswith("\n"):
        return f"; the last line of {CURVE} was torn and is written again"
    return ""


def _write(path: Path, text: str) -> None:
    """Write a small file at once or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)


if __name__ == "__main__":
    problem = attempt(Path(sys.argv[1]))
    sys.exit(problem)
