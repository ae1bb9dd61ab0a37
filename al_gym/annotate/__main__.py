"""A page that asks for the labels that help most, and trains while they are given.

    python -m al_gym.annotate --demo
    python -m al_gym.annotate --root my_scans --classes nodule cord artery node --budget 200
    python -m al_gym.annotate --project annotation

begins a project, or goes on with the one that is in the folder: settings, answers and the trained
classifier lie there, the images stay where they are. No labels are needed. The first samples are
typical ones, the others those that the method asks for; a random share, drawn before it has a say,
is the test set. Ctrl-C ends it, and the same command goes on.

The page is for this machine alone, unless ``--host`` says otherwise: then people sign in with a
password, and the connection should be encrypted (``--certfile``, ``--keyfile``).
"""

import contextlib
import getpass
import importlib.util
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

DECIDED = (
    "classes", "dataset", "method", "query_size", "budget", "audit", "twice", "ahead", "key",
    "seed", "set",
)  # fmt: skip
"""Options that are decided when a project begins."""
PASSWORD = "AL_GYM_PASSWORD"
"""Environment variable of the password."""
RESTARTS = 5
"""Times that a trainer which was killed is started again."""
PAUSE = 5.0
"""Seconds after which one that could not write is started again, as often as it takes."""


@dataclass(frozen=True)
class AnnotateConfig:
    """Label images on a page that asks for those that help most."""

    project: Path | None = None
    """Folder of the project; otherwise ``annotation``, or ``annotation-demo``."""
    root: Path | None = None
    """Folder of the images: of a new project, or where those of one that is there have moved to."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of their keys; otherwise those of the data set."""
    dataset: Literal["Folder", "chestCT", "MedMNIST"] = "Folder"
    """Images of any kind; lesions of the chestCT annotation file, whose label cells may be empty;
    or a file of MedMNIST's (with --set flag=...)."""
    method: str = "drla-embed-v1"
    """What chooses, as for benchmarks.query: a strategy, a trained policy, or one of your own."""
    query_size: int = 10
    """Samples that are chosen at a time."""
    budget: int = 200
    """Samples to label in all, the test set included."""
    audit: float = 0.2
    """Share of them that is drawn at random, and held out as the test set."""
    twice: float = 0.1
    """Share of them that two people label, once there are two."""
    ahead: bool = True
    """Choose each query while the one before it is answered: nobody waits for training."""
    key: bool = False
    """Labels that the images have are an answer key, which nothing learns from."""
    seed: int = 0
    """Of everything that is drawn."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Any other keyword of gymnasium.make, such as image_size=128 or window=[-1000,400]."""
    demo: bool = False
    """Play it on generated CT, whose labels are the answer key."""
    trust: bool = False
    """Run code that the project in the folder names, a method or a network of somebody's own: see
    SECURITY.md."""
    train: bool = True
    """Ask and train in a process beside the page. Without it somebody else asks: a program over
    env.step whose annotator is a HumanAnnotator on the project's answers.sqlite."""
    files: bool = False
    """Show the file of each sample; its name may name a patient."""
    opinion: bool = False
    """Tell the classifier's opinion after each answer."""
    keys: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ACTION=KEY ...")] = ()
    """Other keys: class1=q unsure=x; the page lists the actions."""
    export: bool = False
    """Write the results into the project's folder, and end."""
    host: str = "127.0.0.1"
    """Address to listen on; another than this machine's own needs a password."""
    port: int = 8080
    """Port to listen on."""
    names: tuple[str, ...] = ()
    """What browsers call this machine, where it is more than the address: scan-pc.hospital.org."""
    password: bool = False
    """Ask for the password that people shall sign in with; or it is in the environment variable
    AL_GYM_PASSWORD."""
    password_file: Path | None = None
    """File whose first line is the password."""
    certfile: Path | None = None
    """Certificate, to serve encrypted."""
    keyfile: Path | None = None
    """Its key."""
    show: bool = True
    """Open a browser."""


def main(config: AnnotateConfig) -> int:
    """Serve until told to stop; returns the exit status.

    Raises:
        ValueError: settings that do not fit.
        FileNotFoundError: there are no images, or no such project.
    """
    from al_gym.annotate import server  # here, as --help needs none of it

    access = server.Access(config.host, password_of(config), config.names)
    tls = certificate(config)
    if not access.is_local and not tls:
        print(
            "WARNING: without --certfile and --keyfile the password and the images go over the "
            "network unencrypted.",
            file=sys.stderr,
        )
    project = project_of(config)
    if config.export:
        from al_gym.annotate import export

        print("\n".join(f"wrote {path}" for path in export.write(project)))
        return 0
    if importlib.util.find_spec("nicegui") is None:
        raise ValueError("the page needs the extra: pip install 'al-gym[annotate]'")
    os.environ.setdefault("NICEGUI_STORAGE_PATH", str(project.folder.resolve() / ".nicegui"))
    from al_gym.annotate import keys, page
    from al_gym.annotate.originals import Originals

    names = project.plan.dataset.class_names
    changes = dict(each.partition("=")[::2] for each in config.keys)
    assigned = keys.assigned(len(names), changes)
    site = page.Site(project, Originals(project), assigned, config.opinion, config.files)
    url = f"{'https' if tls else 'http'}://{config.host}:{config.port}"
    print(f"{project.folder}: {url} asks for labels. Ctrl-C ends it; the same command goes on.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    trainer = Trainer(project.folder) if config.train else contextlib.nullcontext()
    with trainer, contextlib.suppress(KeyboardInterrupt):
        page.serve(site, access, config.port, config.show, **tls)
    print(f"Stopped. All answers are in {project.folder}; the same command goes on.")
    return 0


def project_of(config: AnnotateConfig):  # type: ignore[no-untyped-def]
    """The project that is meant: a new one, or the one in the folder.

    Raises:
        ValueError: neither images nor a project, or a project of other settings.
        FileNotFoundError: no such project.
    """
    from al_gym.annotate import guide
    from al_gym.annotate.project import SETTINGS, Project, Settings
    from al_gym.config import parsed_setting
    from al_gym.data import phantoms

    folder = config.project or Path("annotation-demo" if config.demo else "annotation")
    if config.demo:
        _refuse(config, [name for name in DECIDED if name not in ("method", "seed")], "the demo")
        root = phantoms.folder("chestCT", 40, 0)
        project = Project.create(
            folder,
            Settings(
                str(root), "chestCT", method=config.method, query_size=5, budget=60, audit=0.25,
                key=True, seed=config.seed,
            ),
        )  # fmt: skip
        if not (folder / guide.FOLDER).exists():
            guide.write_demo(folder)
        return project
    is_there = (folder / SETTINGS).exists()
    if config.root is None:
        if is_there:
            _refuse(config, DECIDED, f"the project in {folder}")
            return Project(folder, config.trust)
        raise ValueError(
            "say where the images are, --root my_scans, or which project to go on with, --project; "
            "--demo plays it on generated CT"
        )
    if is_there and not any(_is_given(config, name) for name in DECIDED):
        return Project.moved(folder, str(config.root.resolve()), config.trust)
    return Project.create(
        folder,
        Settings(
            str(config.root.resolve()), config.dataset, config.classes, config.method,
            config.query_size, config.budget, config.audit, config.twice, config.ahead, config.key,
            config.seed, dict(parsed_setting(each, "--set") for each in config.set),
        ),
    )  # fmt: skip


def _refuse(config: AnnotateConfig, names: Sequence[str], decided_by: str) -> None:
    """Refuse options that would be passed over.

    Raises:
        ValueError: one of them was given; names it.
    """
    for name in names:
        if _is_given(config, name):
            option = name.replace("_", "-")
            raise ValueError(f"--{option} is decided by {decided_by}: leave it out")


def _is_given(config: AnnotateConfig, name: str) -> bool:
    """Whether an option is another than it would be by itself."""
    return bool(getattr(config, name) != getattr(AnnotateConfig(), name))


def password_of(config: AnnotateConfig) -> str | None:
    """From the file, the environment or the keyboard; None: there is none.

    Raises:
        ValueError: it is empty.
        FileNotFoundError: there is no such file.
    """
    if config.password_file is not None:
        found = config.password_file.read_text(encoding="utf-8").partition("\n")[0].strip()
    elif config.password:
        found = getpass.getpass("Password that people shall sign in with: ")
    else:
        return os.environ.get(PASSWORD) or None
    if not found:
        raise ValueError("the password is empty")
    return found


def certificate(config: AnnotateConfig) -> dict[str, str]:
    """Uvicorn's arguments for an encrypted connection; empty: it is not encrypted.

    Raises:
        ValueError: one of the two files alone, or one that is not there.
    """
    files = {"ssl_certfile": config.certfile, "ssl_keyfile": config.keyfile}
    given = {name: path for name, path in files.items() if path is not None}
    if len(given) == 1:
        raise ValueError("--certfile and --keyfile belong together")
    for path in given.values():
        if not path.is_file():
            raise ValueError(f"there is no file {path}")
    return {name: str(path) for name, path in given.items()}


class Trainer:
    """The process that asks and trains, started again if it is killed, or the disk was full.

    One that ends by an error of its own has said why, which the page shows.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        program = [sys.executable, "-m", "al_gym.annotate.trainer"]
        # code that the project names was named, or consented to, where this process was started
        self._command = [*program, "--trust", str(folder), str(os.getpid())]
        self._ending = threading.Event()
        self._process = subprocess.Popen(self._command)
        self._watch = threading.Thread(target=self._keep_up, daemon=True)

    def __enter__(self) -> "Trainer":
        """Watch over it."""
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._ending.set()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _keep_up(self) -> None:
        from al_gym.annotate.project import ANSWERS
        from al_gym.annotate.store import Store
        from al_gym.annotate.trainer import AGAIN, ERROR

        killed = 0
        while True:
            while self._process.poll() is None:
                if self._ending.wait(0.5):
                    return
            killed += self._process.returncode < 0
            if self._process.returncode >= 0 and self._process.returncode != AGAIN:
                return  # by itself
            if killed > RESTARTS:
                reason = f"it was killed {killed} times, perhaps as there is too little memory."
                Store(self._folder / ANSWERS).set_fact(ERROR, reason)
                return
            logging.getLogger(__name__).warning("the trainer has ended; starting it again")
            if self._ending.wait(PAUSE if self._process.returncode == AGAIN else 1):
                return
            self._process = subprocess.Popen(self._command)


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(AnnotateConfig, description=__doc__)))
    except (ValueError, TypeError, OSError, ImportError) as error:
        sys.exit(f"al_gym.annotate: {error}")
