"""Where cells run: in this process, in others, side by side, or on a Ray cluster."""

import contextlib
import functools
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import cell
from benchmarks.matrix import methods, side_by_side
from benchmarks.matrix.environments import make_vector_environment
from benchmarks.matrix.layout import CONFIG, CURVE, ERROR, RESULT, read_config


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


def execute(folders: list[Path], totals: dict[Path, int], how: Execution) -> dict[Path, str]:
    """Run cells, with one progress bar over all of them; returns what stopped those that failed.

    Args:
        folders: cells to run.
        totals: lines of the curve of every cell, those finished already included.
        how: where, and how many at a time.
    """
    if how.ray is not None:
        outcomes = _on_ray(folders, how)
    elif how.workers > 1:
        outcomes = _in_processes(_parts(folders, how.workers), how)
    else:
        outcomes = _in_this_process(folders, how)
    with _progress(totals, how.title):
        return {folder: problem for folder, problem in outcomes if problem is not None}


def _in_this_process(folders: list[Path], how: Execution) -> Iterator[tuple[Path, str | None]]:
    """One by one, or several of an experiment at a time."""
    alone = [folder for folder in folders if how.side_by_side == 1 or not _shares(folder)]
    for folder, env in cell.with_environments(alone):
        yield folder, cell.attempt(folder, tqdm.write, env)
    for _, experiment in itertools.groupby(
        [folder for folder in folders if folder not in alone], lambda folder: folder.parents[1]
    ):
        yield from _together(list(experiment), how)


def _together(folders: list[Path], how: Execution) -> Iterator[tuple[Path, str | None]]:
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
            programs = [functools.partial(cell.attempt, folder, tqdm.write) for folder in some]
            yield from zip(some, side_by_side.play(vector, programs), strict=True)


def _in_processes(parts: list[list[Path]], how: Execution) -> Iterator[tuple[Path, str | None]]:
    """Each part in a process, which makes the environment once; what kills it costs one cell.

    If a process is killed, the cell that it was in has failed, and another takes over the rest.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(how.threads)}

    def some(cells: list[Path]) -> list[tuple[Path, str | None]]:
        outcomes: list[tuple[Path, str | None]] = []
        for folder in cells:
            (folder / ERROR).unlink(missing_ok=True)  # of an earlier attempt
        while cells:
            command = [sys.executable, "-m", "benchmarks.cell", *map(str, cells)]
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.stdout:
                tqdm.write(done.stdout.rstrip())
            found = [(folder, _outcome(folder)) for folder in cells]
            ended = list(itertools.takewhile(lambda each: each[1] is not OPEN, found))
            outcomes += [(folder, problem or None) for folder, problem in ended]
            cells = cells[len(ended) :]
            if cells:
                outcomes.append((cells[0], _lost(cells[0], done)))
                cells = cells[1:]
        return outcomes

    with ThreadPoolExecutor(how.workers) as pool:
        futures = [pool.submit(some, part) for part in parts]
        try:
            for future in as_completed(futures):
                yield from future.result()
        except BaseException:  # Ctrl-C reaches the processes too; begin no more of them
            pool.shutdown(wait=False, cancel_futures=True)
            raise


OPEN = None
"""Outcome of a cell that has neither ended nor failed; "" is that of one that has ended."""


def _outcome(folder: Path) -> str | None:
    """What stopped a cell, "" if it is finished, or ``OPEN``."""
    if (folder / RESULT).exists():
        return ""
    if (folder / ERROR).exists():
        return (folder / ERROR).read_text().partition("\n")[0]
    return OPEN


def _lost(folder: Path, done: subprocess.CompletedProcess[str]) -> str:
    """Why the process that a cell was in ended without a word; written to ``error.txt``."""
    if done.returncode < 0:
        why = " (out of memory?)" if -done.returncode == signal.SIGKILL else ""
        problem = f"its process was killed by signal {-done.returncode}{why}"
    else:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        problem = f"its process ended early: {last[0]}"
    (folder / ERROR).write_text(problem)
    return problem


def _parts(folders: list[Path], n_workers: int) -> list[list[Path]]:
    """Cells divided among processes: those of a seed together, yet no worker without work.

    The cells of an experiment come seed by seed, so that a run that is stopped has whole seeds.
    """
    parts: list[list[Path]] = []
    share = -(-len(folders) // n_workers)
    for _, cells in itertools.groupby(folders, lambda folder: (folder.parents[1], folder.name)):
        together = list(cells)
        parts += [together[i : i + share] for i in range(0, len(together), share)]
    return parts


def _on_ray(folders: list[Path], how: Execution) -> Iterator[tuple[Path, str | None]]:
    """One Ray task a cell; one lost with its worker is started again, from its checkpoint.

    Raises:
        ValueError: Ray is not installed, or there is no cluster.
    """
    try:
        import ray  # an extra: imported where it is needed
    except ImportError:
        raise ValueError("--ray needs Ray: pip install 'al-gym[distributed]'") from None
    names = [name for name in ("AL_GYM_DATA", "AL_GYM_CACHE") if name in os.environ]
    variables = {name: os.environ[name] for name in names}
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
        tasks = {task.remote(folder.resolve()): folder for folder in folders}
        waiting = list(tasks)
        while waiting:
            (done,), waiting = ray.wait(waiting, num_returns=1)
            try:
                yield tasks[done], ray.get(done)
            except ray.exceptions.RayError as error:
                yield tasks[done], f"its worker was lost: {error}"
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _progress(totals: dict[Path, int], name: str) -> Iterator[None]:
    """A bar over the steps of all cells, by the lines of their curves: wherever they run."""
    counts = {folder: _lines(folder / CURVE) for folder in totals}
    stop = threading.Event()
    with tqdm(
        total=sum(totals.values()), initial=sum(counts.values()), unit="step", desc=name
    ) as bar:

        def watch() -> None:
            over = False
            while not over:
                over = stop.wait(0.5)  # looks once more after the end
                for folder in totals:
                    if counts[folder] < totals[folder]:
                        counts[folder] = _lines(folder / CURVE)
                bar.n = sum(counts.values())
                done = sum(counts[folder] >= total for folder, total in totals.items())
                bar.set_postfix_str(f"{done} of {len(totals)} cells")

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _lines(curve: Path) -> int:
    """Steps in a curve, its header apart."""
    try:
        return max(0, curve.read_bytes().count(b"\n") - 1)
    except FileNotFoundError:
        return 0


def _shares(folder: Path) -> bool:
    """Whether the cell's method can share a process with others."""
    return methods.find(read_config(folder / CONFIG)["method"]).side_by_side
