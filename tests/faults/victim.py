"""A process that forks one child a job, in which faults come: what is imported is imported once.

    LD_PRELOAD=shim.so python -m tests.faults.victim shim.so

reads a job a line, JSON with the fields of ``harness.Job``, runs it in a child, and answers with a
line of its exit status, negative for a signal, and the calls that the shim has counted.
"""

import ctypes
import functools
import importlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from al_gym.annotate import HumanAnnotator, Stopped, export, trainer
from al_gym.annotate.store import NotSaved, Store
from benchmarks import run
from benchmarks.matrix import stopping
from tests.al_gym.annotate.projects import labels_of, make_project

HEAVY = (
    "agents.ddpg", "agents.hyper", "agents.sb3", "agents.sets", "agents.transfer",
    "al_gym.wrappers", "benchmarks.matrix.executors",
)  # fmt: skip
"""Imported where a run first needs them: here, once."""
HEAD = ("trainable=head", "network=small2d", "weights=null")
"""A linear layer, which is trained in no time, on a random network whose features are kept."""
CAN_NOT_WRITE = 75
LIMIT = 120.0
"""Seconds after which a child is taken to hang."""


def matrix(job: dict[str, Any]) -> int:
    """Two methods, one of which learns, on one seed; the exit status."""
    folder = Path(job["folder"])
    config = run.RunConfig(
        folder / "out", dataset="Folder", root=Path(job["root"]), methods=("random", "drla"),
        seeds=1, query_size=8, budget=0.4, checkpoint_every=2, set=HEAD, **job["how"],
    )  # fmt: skip
    stopping.main(functools.partial(run.command_line, config))


def people(path: Path, truth: list[int], done: threading.Event) -> None:
    """Somebody who answers, and tries again what could not be written."""
    store = Store(path)
    failed = 0
    while not done.is_set():
        try:
            question = store.next_for("ann")
            if question is not None:
                store.answer(question.sample, "ann", truth[question.sample], 1.0)
                continue
        except NotSaved as error:
            failed += 1
            if failed > 20:
                print(f"the person gives up: {error}", flush=True)
                os._exit(CAN_NOT_WRITE)
        time.sleep(0.005)


def annotation(job: dict[str, Any]) -> int:
    """A project from its first question to its model and tables; the exit status."""
    done, stop = threading.Event(), threading.Event()
    for number in stopping.NUMBERS:
        signal.signal(number, lambda *_: stop.set())
    try:
        project = make_project(Path(job["folder"]) / "project", Path(job["root"]))
        truth = labels_of(project).tolist()
        store = project.store
        store.join("ann")
        thread = threading.Thread(target=people, args=(store.path, truth, done), daemon=True)
        thread.start()
        trainer.train(project, HumanAnnotator(store, timeout=60, stop=stop), lambda _: None)
        done.set()
        thread.join()
        export.write(project)
    except Stopped:
        return 128 + signal.SIGTERM
    except (OSError, ValueError) as error:
        print(f"it could not go on: {error!r}", flush=True)
        return CAN_NOT_WRITE
    return 0


WORK = {"matrix": matrix, "annotation": annotation}


def child(shim: ctypes.CDLL, job: dict[str, Any]) -> None:
    """Do the work of a job under its fault; does not return."""
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["AL_GYM_CACHE"] = str(Path(job["folder"]) / "cache")
    shim.fault_arm(job["folder"].encode(), job["at"], job["kind"], job["value"])
    try:
        status = WORK[job["work"]](job)
    except SystemExit as error:
        status = int(error.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    """Do the jobs, until there are no more."""
    for name in HEAVY:
        importlib.import_module(name)
    shim = ctypes.CDLL(sys.argv[1])
    shim.fault_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int]
    shim.fault_count.restype = ctypes.c_long
    for line in sys.stdin:
        job = json.loads(line)
        process = os.fork()
        if not process:
            child(shim, job)
        deadline = time.monotonic() + LIMIT
        while not (ended := os.waitpid(process, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                os.kill(process, signal.SIGABRT)
                ended = os.waitpid(process, 0)
                break
            time.sleep(0.002)
        print(os.waitstatus_to_exitcode(ended[1]), shim.fault_count(), flush=True)


if __name__ == "__main__":
    main()
