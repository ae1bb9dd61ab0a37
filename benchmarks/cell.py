"""One cell of an experiment: a data set, a method and a seed, in a folder of its own.

``config.json`` says what to run, so a folder is all that a process needs to know:

    python -m benchmarks.cell [--trust] runs/first/chestCT/ms/seed0 [another folder ...]

One whose ``config.json`` names code of somebody's own is refused without ``--trust``. Cells of one
experiment share the environment, which is made once; with ``-`` in place of folders they are read
from the standard input. A cell writes ``curve.csv``, a line a step, each on disk
before the next step begins, beside it ``predictions.bin``, what the classifier then predicts of the
test images, and every few steps
``checkpoint.safetensors`` with everything that decides how the cell goes on. Run again, it goes on
from there, and its curve ends as if nothing had happened. ``result.json`` marks the end;
``error.txt`` holds what stopped it, in a line and in full. Where that were numbers that are NaN or
infinite, ``failure.safetensors`` has what a checkpoint has, as it was then, and the ``classifier``
that had gone wrong; ``agents.checkpoint.read`` reads it.
"""

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from agents import checkpoint
from al_gym import durable
from al_gym.errors import CheckpointError
from al_gym.import_paths import check_trusted, named_in
from benchmarks.matrix import methods
from benchmarks.matrix.environments import make_environment
from benchmarks.matrix.layout import (
    CHECKPOINT,
    CONFIG,
    CURVE,
    ERROR,
    FAILURE,
    RESULT,
    difference,
    is_finished,
    read_config,
)
from benchmarks.matrix.locks import only_process
from benchmarks.matrix.players import Player
from benchmarks.matrix.provenance import completed, describe_task
from benchmarks.matrix.recorder import Recorder
from benchmarks.matrix.stopping import Stop
from benchmarks.matrix.stopping import main as run_program


def run(
    folder: Path,
    say: Callable[[str], None] = print,
    env: gym.Env[Any, Any] | None = None,
    trust: bool = False,
    stop: Stop | None = None,
) -> None:
    """Run the cell of a folder, from its checkpoint if it has one.

    Args:
        folder: with ``config.json``.
        say: told what a person should know.
        env: an environment as ``config.json`` asks for; None: made now.
        trust: whether code that ``config.json`` names may be run.
        stop: asked after every step whether to stop.

    Raises:
        Stopped: so it was; the step is in the checkpoint.
        CheckpointError: ``config.json`` is damaged, or names code, and ``trust`` is not set.
        RuntimeError: this method's start is not that of the others on this seed.
        Exception: whatever stops the method; the last checkpoint stays.
    """
    config = _trusted_config(folder, trust)
    with only_process(folder, "this cell", say), threads(config["threads"]):
        if not is_finished(folder):
            _run(folder, config, say, env or make_environment(config), stop or Stop())


def _trusted_config(folder: Path, trust: bool) -> dict[str, Any]:
    config = read_config(folder / CONFIG)
    check_trusted(
        folder / CONFIG, named_in(config.get("settings", {}), config.get("method")), trust
    )
    return config


def _run(
    folder: Path,
    config: dict[str, Any],
    say: Callable[[str], None],
    env: gym.Env[Any, Any],
    stop: Stop,
) -> None:
    if (folder / RESULT).exists():
        say(f"{folder}: {RESULT} or {CURVE} is damaged; the cell is run again")
        (folder / RESULT).unlink()
    for left in (folder / ERROR, folder / FAILURE):
        left.unlink(missing_ok=True)
    durable.sweep(folder)
    durable.sync(folder / CONFIG)  # before there is anything that goes by it
    changed = difference(
        completed(config),
        json.loads(json.dumps(describe_task(env))),
        ("fingerprint", "environment", "initial_file", "classifier"),
    )
    if changed:
        raise RuntimeError(f"data or settings are not what {CONFIG} says: {changed}")
    method = methods.find(config["method"])
    recorder = Recorder(env, config, folder, one_point=not method.facts.has_curve)
    player = method.make(recorder, config["seed"], config["agent"])
    recorder.health = getattr(player, "health", dict)
    saved = _checkpoint(folder, say)
    if saved is not None:
        lines = saved["recorder"]["lines"]
        damage = _damage(folder / CURVE, lines) + recorder.damage(len(lines) - 1)
        say(f"{folder}: goes on from step {len(lines) - 2}{damage}")
        recorder.load_state_dict(saved["recorder"])
        player.reset()
        env.get_wrapper_attr("run").load_state_dict(saved["env"])
        player.load_state_dict(saved["player"])
        recorder.start_clock()
    last = recorder.n_steps

    def after_step() -> None:
        nonlocal last
        is_due = recorder.n_steps - last >= (1 if stop.number else config["checkpoint_every"])
        if is_due and not recorder.over:
            recorder.sync()  # what the checkpoint says is there
            last = recorder.n_steps
            checkpoint.write(folder / CHECKPOINT, _state(recorder, player))
            recorder.start_clock()
        if not recorder.over:
            stop.check()

    try:
        player.play(after_step)
    except FloatingPointError as error:
        state = _state(recorder, player) | {"classifier": getattr(error, "classifier", None)}
        checkpoint.write(folder / FAILURE, state)
        raise FloatingPointError(f"{error}; the state then is kept in {FAILURE}") from error
    if not recorder.over:
        raise RuntimeError(f"the method stopped after {recorder.n_steps} steps, before the budget")
    recorder.sync()
    durable.write_text(folder / RESULT, json.dumps({"steps": recorder.n_steps}))
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _state(recorder: Recorder, player: Player) -> dict[str, Any]:
    """Everything that decides how a cell goes on."""
    run = recorder.get_wrapper_attr("run")
    return {
        "recorder": recorder.state_dict(),
        "env": run.state_dict() if run.has_begun else None,
        "player": player.state_dict(),
    }


def _checkpoint(folder: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """The checkpoint of a cell; None if there is none that can be used.

    What a cell does is decided by its ``config.json``: begun again, it ends as it would have.
    """
    if not (folder / CHECKPOINT).exists():
        return None
    try:
        return checkpoint.read(folder / CHECKPOINT)
    except CheckpointError as error:
        say(f"{folder}: begins again, as its checkpoint cannot be used: {error}")
        return None


def attempt(
    folder: Path,
    say: Callable[[str], None] = print,
    env: gym.Env[Any, Any] | None = None,
    trust: bool = False,
    stop: Stop | None = None,
) -> str | None:
    """``run``, but what stops the cell goes to ``error.txt``; returns it in a line.

    Raises:
        Stopped: the cell was asked to stop, which is no problem of its own.
    """
    try:
        run(folder, say, env, trust, stop)
    except Exception as error:
        message = str(error).strip() or "no message"
        problem = f"{type(error).__name__}: {message.splitlines()[0]}"
        with contextlib.suppress(OSError):  # the disk may be what is wrong
            (folder / ERROR).write_text(f"{problem}\n\n{traceback.format_exc()}")
        return problem
    return None


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """PyTorch on ``n`` threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _damage(curve: Path, lines: list[str]) -> str:
    """What is to be said of a curve that the checkpoint's ``lines`` are about to replace."""
    found = curve.read_text(errors="replace") if curve.exists() else ""
    if not found.startswith("".join(lines)):
        return f"; {CURVE} was damaged and is repaired from the checkpoint"
    if not found.endswith("\n"):
        return f"; the last line of {CURVE} was torn and is written again"
    return ""


def with_environments(
    folders: Iterable[Path], trust: bool = False
) -> Iterator[tuple[Path, gym.Env[Any, Any] | None]]:
    """Cells with their environment; the same one as long as ``config.json`` asks for the same.

    Every cell resets it with its seed: what it computed before does not matter. None where it could
    not be made: the cell itself then says why.
    """
    env: gym.Env[Any, Any] | None = None
    made_of: Any = None
    for folder in folders:
        try:
            config = _trusted_config(folder, trust)
            wanted = config["dataset"], config["settings"], config["threads"]
            if wanted != made_of:
                env, made_of = None, None  # the old one is freed before the new one is made
                with threads(config["threads"]):
                    env, made_of = make_environment(config), wanted
        except Exception:
            env, made_of = None, None
        yield folder, env


FROM_STDIN = "-"
"""In place of folders on the command line: they are read line by line, as they come."""
TRUST = "--trust"
"""On the command line: code that the folders name may be run."""
ENDED = "\x04"
"""Begins the line that is then written after every cell; what stopped the cell follows."""


def main(arguments: Sequence[str], stop: Stop | None = None) -> str | None:
    """Run several cells, one after the other; returns what stopped the last that failed.

    Raises:
        Stopped: a signal has asked to stop.
    """
    stop = stop or Stop()
    trust = TRUST in arguments
    given = [each for each in arguments if each != TRUST]
    as_they_come = given == [FROM_STDIN]
    names = _names_from_stdin() if as_they_come else given
    last = None
    for folder, env in with_environments(map(Path, names), trust):
        with stop.grace():
            problem = attempt(folder, env=env, trust=trust, stop=stop)
        last = problem or last
        if as_they_come:
            print(f"{ENDED}{problem or ''}", flush=True)
    return None if as_they_come else last


def _names_from_stdin() -> Iterator[str]:
    """Its lines. Where it ends within a cell the process that waits has gone, killed say: SIGTERM.

    So what that process had begun does not work on for hours, while the same command waits for it.
    """
    names: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    n_given = n_done = 0

    def read() -> None:
        nonlocal n_given
        with open(sys.stdin.fileno(), closefd=False) as lines:  # sys.stdin's lock stays free
            for line in lines:
                n_given += 1
                names.put(line.rstrip("\n"))
        names.put(None)
        if n_done < n_given:
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=read, daemon=True).start()
    while (name := names.get()) is not None:
        yield name
        n_done += 1


def _command_line(stop: Stop) -> int:
    problem = main(sys.argv[1:], stop)
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    run_program(_command_line)
