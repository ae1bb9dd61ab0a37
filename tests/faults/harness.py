"""Jobs for the victim, the faults that come in them, and what must be left in the end."""

import csv
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from al_gym.annotate.store import Store
from al_gym.data import cache
from benchmarks.matrix import layout

SOURCE = Path(__file__).with_name("shim.c")
FAIL, FULL, SIGNAL, CRASH = 1, 2, 3, 4
"""Of shim.c."""
KINDS = {
    "ENOSPC": (FAIL, errno.ENOSPC),
    "EIO": (FAIL, errno.EIO),
    "EINTR": (FAIL, errno.EINTR),
    "full disk": (FULL, errno.ENOSPC),
    "SIGKILL within": (SIGNAL, signal.SIGKILL),
    "SIGKILL after": (CRASH, 0),
    "SIGTERM": (SIGNAL, signal.SIGTERM),
    "SIGINT": (SIGNAL, signal.SIGINT),
}
HOWS: dict[str, tuple[str, dict[str, Any]]] = {
    "matrix": ("matrix", {}),
    "side by side": ("matrix", {"side_by_side": 2}),
    "workers": ("matrix", {"workers": 2}),
    "ray": ("matrix", {"ray": "local"}),
    "annotation": ("annotation", {}),
}
"""What is run, by what it is called: the work, and keywords of ``RunConfig``."""
POINTS = {"matrix": 80, "side by side": 40, "workers": 16, "ray": 16, "annotation": 64}
"""At which a fault comes, in all, by what is run."""


def spread(kind: str, n: int, count: int) -> list[int]:
    """N of ``count`` calls, from the first to the last, other ones for every kind."""
    offset = np.random.default_rng([list(KINDS).index(kind), 1]).uniform()
    return [1 + int(count * (k + offset) / n) for k in range(n)]


@dataclass(frozen=True)
class Job:
    """What the victim is to do, and the fault that comes."""

    folder: str
    """All that is written lies below it."""
    root: str
    """Of the images."""
    log: str
    """What the child says goes there."""
    work: str
    how: dict[str, Any] = field(default_factory=dict)
    at: int = 0
    """The call at which the fault comes; 0: at none."""
    kind: int = 0
    value: int = 0


def build(folder: Path) -> Path:
    """Compile the shim."""
    shim = folder / "shim.so"
    command = ["gcc", "-O1", "-shared", "-fPIC", "-o", shim, SOURCE, "-ldl"]
    subprocess.run(command, check=True)
    return shim


def draw(root: Path) -> Path:
    """A folder for each of three classes, of 30 images of 8 pixels."""
    rng = np.random.default_rng(0)
    for i in range(90):
        path = root / "abc"[i % 3] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.clip(60 + 60 * (i % 3) + rng.normal(0, 200, (8, 8)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return root


class Victim:
    """The process that forks; see ``victim.py``."""

    def __init__(self, shim: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.victim", str(shim)],
            env=os.environ
            | {"LD_PRELOAD": str(shim), "FAULT_SHARED": f"{shim}.shared", "OMP_NUM_THREADS": "1"},
            cwd=Path(__file__).parents[2], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(self, job: Job) -> tuple[int, int]:
        """Exit status and number of calls."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(asdict(job)), file=self._process.stdin, flush=True)
        status, count = self._process.stdout.readline().split()
        return int(status), int(count)

    def close(self) -> None:
        self._process.communicate()


def left_of_matrix(folder: Path) -> dict[str, Any]:
    """All that decides a result, by its place; nothing else may be there."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name == layout.CURVE:
            with path.open() as file:
                rows = list(csv.DictReader(file))
            found[name] = [
                {key: value for key, value in row.items() if "seconds" not in key} for row in rows
            ]
        elif path.name in (layout.PREDICTIONS, layout.RESULT, layout.START):
            found[name] = path.read_bytes()
        elif path.name == layout.TEST_IMAGES:
            with np.load(path) as file:
                found[name] = {each: file[each].tolist() for each in file}
        elif path.suffix == ".npy":
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                values = cache.loaded(path)
            assert values is not None, name
            found[re.sub("-[0-9a-f]{24,32}", "", name)] = values.tolist()
        elif path.name == layout.CONFIG:
            config = json.loads(path.read_text())
            found[name] = {key: config[key] for key in layout.SHARED if key in config}
        elif path.is_dir():
            found[name] = "folder"
        else:
            assert path.name == "lock" or path.parent.parent.name == "cache", name
            assert path.suffix in ("", ".json", ".lock"), name
    return found


def left_of_annotation(folder: Path) -> dict[str, Any]:
    """Questions, answers, opinions, the model and the tables without their times."""
    project = folder / "project"
    names = sorted(path.name for path in project.iterdir())
    store = Store(project / "answers.sqlite")
    found: dict[str, Any] = {
        "files": [name for name in names if not name.startswith("answers.sqlite")],
        "questions": store.questions(),
        "settled": store.settled(),
        "used": store.used(),
        "opinions": {
            (number, sample): row.tolist()
            for number, *_ in store.models()
            for sample, row in store.opinions(number).items()
        },
        "model": (project / "model.safetensors").read_bytes(),
        "card": (project / "model.json").read_text(),
        "final": (project / "final.csv").read_text(),
    }
    store.close()
    assert all(not name.startswith(".") for name in names), names
    assert [path.suffix for path in sorted((folder / "cache").rglob("*.*"))].count(".npy") >= 1
    assert not list((folder / "cache").rglob(".*"))
    return found


def left(work: str, folder: Path) -> dict[str, Any]:
    return left_of_matrix(folder) if work == "matrix" else left_of_annotation(folder)


@dataclass
class Bench:
    """The victim with its data, and what is left of each kind of run without faults."""

    victim: Victim
    place: Path
    roots: dict[str, Path]
    whole: dict[str, tuple[dict[str, Any], int]] = field(default_factory=dict)

    def uninterrupted(self, what: str) -> tuple[dict[str, Any], int]:
        """What is left of a run without faults, and the calls that it makes."""
        if what not in self.whole:
            job = self._job(what, self.place / f"whole {what}")
            status, count = self.victim.run(job)
            assert status == 0, Path(job.log).read_text()
            self.whole[what] = left(job.work, Path(job.folder)), count
        return self.whole[what]

    def survives(self, what: str, kind: str, at: int) -> int:
        """Run under a fault, then again without; all must be as if nothing had happened.

        Returns:
            The exit status of the run under the fault.
        """
        expected, _ = self.uninterrupted(what)
        folder = self.place / f"{what} {kind} {at}"
        number, value = KINDS[kind]
        job = self._job(what, folder, at=at, kind=number, value=value)
        status, _ = self.victim.run(job)
        said = Path(job.log).read_text()
        assert "Traceback" not in said, said
        assert status != -signal.SIGABRT, f"it hangs: {said}"
        if kind in ("SIGTERM", "SIGINT") and job.work == "matrix":
            if (
                "its process ended early: Stopped" in said
            ):  # it met one of two alone, whose cell it cost
                assert status == 1, said
            else:
                assert status in (0, 128 + value), said
                assert (status == 0) != ("Stopped. The same command goes on." in said), said
        again, _ = self.victim.run(self._job(what, folder))
        assert again == 0, Path(job.log).read_text()
        found = left(job.work, folder)
        assert sorted(found) == sorted(expected), sorted(set(found) ^ set(expected))
        for name, value in expected.items():
            assert found[name] == value, name
        shutil.rmtree(folder)
        return status

    def _job(self, what: str, folder: Path, **fault: int) -> Job:
        work, how = HOWS[what]
        folder.mkdir(exist_ok=True)
        log = self.place / f"{folder.name}.log"
        return Job(str(folder), str(self.roots[work]), str(log), work, how, **fault)
