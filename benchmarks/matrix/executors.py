"""Where cells run: in this process, in others, side by side, or on a Ray cluster."""

import contextlib
import functools
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import cell
from benchmarks.matrix import methods, side_by_side
from benchmarks.matrix.environments import make_vector_environment
from benchmarks.matrix.layout import CONFIG, ERROR, read_config
from benchmarks.matrix.progress import Progress
from benchmarks.matrix.stopping import Stop

PATIENCE = 0.2
"""Seconds between two looks at whether processes are to be told to stop."""
WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}
"""What processes are started with, unless the caller has said otherwise: their threads sleep while
they wait for one another. Spinning ones would take the cores of other cells: by
``benchmarks.waiting`` they then take 1.6 to 1.8 times as long."""

FEWEST_TASKS = 64
"""That Ray has at a time, if there are as many: a cluster may grow with what waits."""


@dataclass(frozen=True)
class Execution:
    """Where cells run, and how many at a time; see ``benchmarks.run.RunConfig``."""

    title: str
    """Of the progress bar."""
    workers: int = 1
    ray: str | None = None
    gpus_per_cell: float = 0.0
    side_by_side: int = 1
    threads: int = 1


Begin = Callable[..., None]
"""Told the folders of cells that begin."""
Outcomes = Iterator[tuple[Path, str | None]]
"""Cells that have ended, and what stopped them, if something did."""


def execute(
    folders: list[Path], totals: dict[Path, int], how: Execution, stop: Stop | None = None
) -> dict[Path, str]:
    """Run cells, with one progress bar over all of them; returns what stopped those that failed.

    Code that their ``config.json`` name is run: the caller has written or compared them.

    Args:
        folders: cells to run.
        totals: lines of the curve of every cell, those finished already included.
        how: where, and how many at a time.
        stop: asked by cells between their steps.

    Raises:
        Stopped: a signal has asked to stop.
    """
    stop = stop or Stop()
    failed = {}
    with Progress(totals, folders, how.title) as progress:
        if how.ray is not None:
            outcomes = _on_ray(folders, how, progress.begin)
        elif how.workers > 1:
            outcomes = _in_processes(folders, how, progress.begin, stop)
        else:
            outcomes = _in_this_process(folders, how, progress.begin, stop)
        for folder, problem in outcomes:
            progress.end(folder, problem)
            if problem is not None:
                failed[folder] = problem
    return failed


def _in_this_process(folders: list[Path], how: Execution, begin: Begin, stop: Stop) -> Outcomes:
    """One by one, or several of an experiment at a time."""
    shared = {folder for folder in folders if how.side_by_side > 1 and _shares(folder)}
    alone = [folder for folder in folders if folder not in shared]
    for folder, env in cell.with_environments(alone, trust=True):
        begin(folder)
        with stop.grace():
            problem = cell.attempt(folder, tqdm.write, env, trust=True, stop=stop)
        yield folder, problem
    for _, experiment in itertools.groupby(
        [folder for folder in folders if folder in shared], lambda folder: folder.parents[1]
    ):
        yield from _together(list(experiment), how, begin, stop)


def _together(folders: list[Path], how: Execution, begin: Begin, stop: Stop) -> Outcomes:
    """Cells of one experiment, some at a time, all on one vector environment."""
    record = read_config(folders[0] / CONFIG)
    n = min(how.side_by_side, len(folders))
    with cell.threads(how.threads):
        try:
            vector = make_vector_environment(record, n)
        except Exception as error:  # too little memory for so many, say
            problem = f"{n} environments side by side could not be made: {error!r}"
            for folder in folders:
                (folder / ERROR).write_text(problem)
                yield folder, problem
            return
        for start in range(0, len(folders), n):
            some = folders[start : start + n]
            begin(*some)
            programs = [
                functools.partial(cell.attempt, folder, tqdm.write, trust=True, stop=stop)
                for folder in some
            ]
            with stop.grace():
                problems = side_by_side.play(vector, programs)
            yield from zip(some, problems, strict=True)


def _in_processes(folders: list[Path], how: Execution, begin: Begin, stop: Stop) -> Outcomes:
    """Several processes, each of which makes an environment once; what kills one costs a cell."""
    mine = threading.local()
    workers: list[Worker] = []

    def run(folder: Path) -> tuple[Path, str | None]:
        stop.check()
        if not hasattr(mine, "worker") or not mine.worker.lives:
            mine.worker = Worker(how.threads)
            workers.append(mine.worker)
        begin(folder)
        return folder, mine.worker.run(folder, stop)

    with ThreadPoolExecutor(how.workers) as pool:
        waiting = {pool.submit(run, folder) for folder in folders}
        try:
            with stop.grace():
                while waiting:
                    done, waiting = wait(waiting, PATIENCE, FIRST_COMPLETED)
                    if stop.number is not None:
                        for worker in workers:
                            worker.stop()
                    yield from [future.result() for future in done]
        except BaseException:  # begin no more cells, and end those that have not ended by now
            pool.shutdown(wait=False, cancel_futures=True)
            if stop.number is not None:
                _end(workers, stop.deadline + 3 * PATIENCE)  # theirs is a little later
            raise
        finally:
            for worker in workers:
                worker.close()


def _end(workers: list["Worker"], deadline: float) -> None:
    """See to it that processes have ended by a moment of ``time.monotonic``."""
    for worker in workers:
        worker.stop()
    for worker in workers:
        worker.end(deadline - time.monotonic())


class Worker:
    """A process that runs the cells whose folders are written to it, one after the other.

    Args:
        threads: of PyTorch in it.
    """

    def __init__(self, threads: int) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed in close)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.cell", cell.TRUST, cell.FROM_STDIN],
            env=WAITING | os.environ | {"OMP_NUM_THREADS": str(threads)}, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip

    @property
    def lives(self) -> bool:
        """Whether it can take another cell."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Tell it to stop at its next checkpoint; more than once does no harm."""
        self._process.terminate()

    def end(self, seconds: float) -> None:
        """Wait until it has ended, and kill it if it takes longer."""
        try:
            self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def run(self, folder: Path, stop: Stop) -> str | None:
        """Run a cell; returns what stopped it, which may be that the process was killed.

        Raises:
            Stopped: the process has ended since it was told to.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        (folder / ERROR).unlink(missing_ok=True)  # of an earlier attempt
        with contextlib.suppress(BrokenPipeError):  # it says below why it ended
            print(folder, file=self._process.stdin)
        for line in self._process.stdout:
            if line.startswith(cell.ENDED):
                return line.removeprefix(cell.ENDED).strip() or None
            tqdm.write(line.rstrip())
        status = self._process.wait()
        time.sleep(PATIENCE)  # Ctrl-C reaches both: let it be noted here too
        stop.check()
        problem = self._why_it_ended(status)
        (folder / ERROR).write_text(problem)
        return problem

    def _why_it_ended(self, status: int) -> str:
        if status < 0:
            why = " (out of memory?)" if -status == signal.SIGKILL else ""
            return f"its process was killed by signal {-status}{why}"
        self._errors.seek(0)
        last = self._errors.read().strip().splitlines()[-1:] or ["no message"]
        return f"its process ended early: {last[0]}"

    def close(self) -> None:
        """Let it end: at once, or where it is in a cell, at its next checkpoint."""
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()
        self._process.wait()


def _on_ray(folders: list[Path], how: Execution, begin: Begin) -> Outcomes:
    """One Ray task a cell; one lost with its worker is started again, from its checkpoint.

    A machine that is only cut off may still run the cell that Ray has given to another. The other
    then waits in ``cell.run`` for the lock of the folder, which ends with the process that holds
    it: Ray ends what runs on a machine that it had given up as soon as the two can talk.

    Raises:
        ValueError: Ray is not installed, or there is no cluster.
    """
    try:
        import ray  # an extra: imported where it is needed
    except ImportError:
        raise ValueError("--ray needs Ray: pip install 'al-gym[distributed]'") from None
    names = ("AL_GYM_DATA", "AL_GYM_CACHE", *WAITING)
    variables = WAITING | {name: os.environ[name] for name in names if name in os.environ}
    options: dict[str, Any] = {"include_dashboard": False} if how.ray == "local" else {}
    options |= {"configure_logging": False, "runtime_env": {"env_vars": variables}}
    try:
        ray.init(address=how.ray, **options)
    except ConnectionError as error:
        raise ValueError(
            f"no Ray cluster at {how.ray!r} ({error}): start one with `ray start --head`, or "
            "use --ray local"
        ) from None
    try:
        task = ray.remote(cell.attempt).options(
            num_cpus=how.threads, num_gpus=how.gpus_per_cell, max_retries=3
        )
        left = iter(folders)
        tasks: dict[Any, Path] = {}
        while True:
            # a cluster that grows is given more; none is asked after thousands at a time
            room = max(FEWEST_TASKS, int(2 * ray.cluster_resources().get("CPU", 0))) - len(tasks)
            for folder in itertools.islice(left, max(0, room)):
                begin(folder)
                tasks[task.remote(folder.resolve(), trust=True)] = folder
            if not tasks:
                return
            (done,), _ = ray.wait(list(tasks), num_returns=1)
            folder = tasks.pop(done)
            try:
                problem = ray.get(done)
            except ray.exceptions.RayError as error:
                problem = f"its worker was lost: {error}"
            yield folder, problem
    finally:
        ray.shutdown()


def _shares(folder: Path) -> bool:
    """Whether the cell's method can share a process with others."""
    return methods.find(read_config(folder / CONFIG)["method"]).side_by_side
