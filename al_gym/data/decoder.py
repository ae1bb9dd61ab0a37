"""Files that nobody vouches for, decoded in processes: a bad one costs no more than itself.

A decoder in C that stumbles over a file takes its process with it, may never come back, or asks for
all memory; threads cannot be saved from this. Here one process imports what is needed, once, and
forks a child for each core. A child that dies is forked anew in milliseconds. What it says are
lines of JSON, so that nothing it made of a file is unpickled.

It costs the imports, about two seconds of a core, twice for a folder, whose headers are looked at
first; a question and its answer take a tenth of a millisecond. On two busy cores 2,000 small JPEGs
took 3 to 6 times as long as by threads, and 200 patches of CT 4 to 5 times. So threads are the
rule, and processes are for ``on_error="skip"``: who says that files may be bad wants the others.

It is no sandbox: a file that makes a decoder run code of its own runs it as the user.
"""

import contextlib
import json
import mmap
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from al_gym.errors import DataError

MEMORY = 4 * 2**30
"""Bytes of addresses that a child may take for a file, beside what it has without one. Images near
the limit of 179 megapixels and scans of a gigabyte need two to three of the four gibibytes."""
SECONDS = 60.0
"""That a child may take for a file."""
AVAILABLE = hasattr(os, "fork")
"""Whether this system can do it: Linux and macOS; the latter does not keep to ``MEMORY``."""
PATIENCE = 10.0  # seconds for children without work to end
IDLE_DEATHS = 100
ONE_THREAD = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1", "MALLOC_ARENA_MAX": "2",
}  # fmt: skip
"""Children are as many as cores; more threads, and glibc's heaps for them, only take addresses."""
PROGRAM = "import json, sys; sys.path = json.loads(sys.argv[1])\n" + (
    "from al_gym.data.decoder import main; main()"
)
"""Run by the parent's interpreter on the parent's path. ``multiprocessing`` would import the user's
script again, which a script without a main guard does not survive; and a fork of the parent itself
would have its locks without the threads that hold them, and its CUDA."""


class Ended(RuntimeError):
    """The processes are gone, by an error of their own or of another call."""


@dataclass(frozen=True)
class Job:
    """What the forking process is told."""

    work: Callable[[int], Any]
    pipes: list[tuple[int, int]]
    """File descriptors of each child: what it is asked, and what it answers."""
    memory: int
    seconds: float


class Decoders:
    """Processes that do ``work(i)``, each for one caller at a time; a context manager.

    Args:
        work: can be pickled, and gives what JSON can say; whatever it prints is lost.
        names: of the files, by ``i``, for errors.
        n_processes: None: one a core.
        memory: see ``MEMORY``.
        seconds: see ``SECONDS``.
    """

    def __init__(
        self,
        work: Callable[[int], Any],
        names: Sequence[str],
        n_processes: int | None = None,
        memory: int = MEMORY,
        seconds: float = SECONDS,
    ) -> None:
        self._names, self._memory, self._seconds = names, memory, seconds
        n = n_processes or os.cpu_count() or 1
        asked, answered = [os.pipe() for _ in range(n)], [os.pipe() for _ in range(n)]
        theirs = [(a[0], b[1]) for a, b in zip(asked, answered, strict=True)]
        job = pickle.dumps(Job(work, theirs, memory, seconds))
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", PROGRAM, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[descriptor for pair in theirs for descriptor in pair],
            start_new_session=True,  # Ctrl-C is the parent's to deal with
            env={**os.environ, **ONE_THREAD},
        )
        for pair in theirs:
            for descriptor in pair:
                os.close(descriptor)
        self._pipes = [
            (os.fdopen(a[1], "wb", 0), os.fdopen(b[0], "rb"))
            for a, b in zip(asked, answered, strict=True)
        ]
        self._idle: queue.SimpleQueue[int] = queue.SimpleQueue()
        for i in range(n):
            self._idle.put(i)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the first call says that it has ended
            self._process.stdin.write(job)
            self._process.stdin.close()

    def __enter__(self) -> "Decoders":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """End all processes: at once after an error, else when they see that no work is left."""
        if error is not None:
            self.kill()
        for questions, answers in self._pipes:
            questions.close()
            answers.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()

    def kill(self) -> None:
        """End all processes at once; calls that wait for one of them raise."""
        if self._process.returncode is None:  # its number is still its own
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def __call__(self, i: int) -> Any:
        """What ``work(i)`` gave.

        Raises:
            DataError: it raised, crashed, or took too much memory or time; names the file.
            Ended: there are no processes any more.
        """
        slot = self._idle.get()
        try:
            answer = self._ask(slot, i)
        finally:
            self._idle.put(slot)
        if "problem" in answer:
            raise DataError(answer["problem"])
        if "memory" in answer:
            limit = f"{self._memory / 2**30:.3g} GiB"
            raise DataError(f"the decoder ran out of memory (limit {limit}) on {self._names[i]}")
        if answer.get("ended") == -signal.SIGALRM:
            raise DataError(
                f"the decoder took longer than {self._seconds:g} seconds on {self._names[i]}"
            )
        if "ended" in answer:
            raise DataError(f"the decoder crashed ({_how(answer['ended'])}) on {self._names[i]}")
        return answer["value"]

    def _ask(self, slot: int, i: int) -> dict[str, Any]:
        questions, answers = self._pipes[slot]
        with contextlib.suppress(BrokenPipeError):
            questions.write(b"%d\n" % i)
        for line in answers:
            answer: dict[str, Any] = json.loads(line)
            if answer["i"] == i:  # and not of an image before, whose child died after its answer
                return answer
        raise Ended("the processes that decode have ended; what they said is above")


def main() -> None:
    """Fork children and replace those that die, until nobody asks them any more."""
    job: Job = pickle.load(sys.stdin.buffer)
    busy_with = mmap.mmap(-1, 8 * len(job.pipes))  # shared with the children
    children = {_fork(job, slot, busy_with): slot for slot in range(len(job.pipes))}
    n_idle = 0
    while children:
        child, status = os.wait()
        slot, code = children.pop(child), os.waitstatus_to_exitcode(status)
        (i,) = struct.unpack_from("q", busy_with, 8 * slot)
        if i < 0 and code == 0:
            continue
        if i >= 0:
            _say(job.pipes[slot][1], {"i": i, "ended": code})
        else:  # what it read before may have broken it; more than a few say that it never worked
            n_idle += 1
            if n_idle > IDLE_DEATHS:
                sys.exit("the processes that decode end before they have begun")
        children[_fork(job, slot, busy_with)] = slot
    os._exit(0)  # PyTorch's own end takes a second


def _fork(job: Job, slot: int, busy_with: mmap.mmap) -> int:
    struct.pack_into("q", busy_with, 8 * slot, -1)
    child = os.fork()
    if child:
        return child
    try:
        _serve(job, slot, busy_with)
        os._exit(0)
    except BrokenPipeError:
        os._exit(0)  # the parent has gone
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _serve(job: Job, slot: int, busy_with: mmap.mmap) -> None:
    """Do what is asked for, one line a file."""
    for other, pair in enumerate(job.pipes):
        for descriptor in pair if other != slot else ():
            os.close(descriptor)
    _limit(job.memory)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the system ends the process, whatever it does
    questions, answers = job.pipes[slot]
    with os.fdopen(questions, "rb") as lines:
        for line in lines:
            i = int(line)
            struct.pack_into("q", busy_with, 8 * slot, i)
            signal.setitimer(signal.ITIMER_REAL, job.seconds)
            answer = _done(job.work, i)
            signal.setitimer(signal.ITIMER_REAL, 0)
            _say(answers, {"i": i, **answer})
            struct.pack_into("q", busy_with, 8 * slot, -1)


def _done(work: Callable[[int], Any], i: int) -> dict[str, Any]:
    try:
        return {"value": work(i)}
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MemoryError):
                return {"memory": True}
            cause = cause.__cause__
        told = isinstance(error, ValueError | OSError)
        return {"problem": str(error) if told else f"{type(error).__name__}: {error}"}


def _limit(memory: int) -> None:
    """Bound the addresses of this process, and leave no core files."""
    import resource  # not on Windows

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = Path("/proc/self/statm")
    if pages.exists():
        now = int(pages.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))


def _say(descriptor: int, answer: dict[str, Any]) -> None:
    line = json.dumps(answer).encode() + b"\n"
    while line:
        line = line[os.write(descriptor, line) :]


def _how(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"status {code}"
