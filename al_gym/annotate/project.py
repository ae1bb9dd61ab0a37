"""A project: one folder with its settings, its answers and its model.

    project.json         the settings
    answers.sqlite       what was asked and answered, see ``store``
    model.safetensors    the last classifier, and model.json, what it is; see ``al_gym.predict``

The images stay where they are. A copy of the folder is a copy of the project.
"""

import hashlib
import inspect
import json
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from al_gym import durable
from al_gym.annotate.store import Store
from al_gym.classifiers.images import DeviceImages
from al_gym.config import (
    ClassifierConfig,
    EnvConfig,
    check_at_least,
    check_between,
    check_bool,
    check_one_of,
    plain,
)
from al_gym.data import READERS, chestct, files
from al_gym.data.dataset import UNKNOWN, ImageDataset
from al_gym.errors import CheckpointError
from al_gym.import_paths import check_trusted, named_in
from al_gym.make import ingredients

SETTINGS, ANSWERS = "project.json", "answers.sqlite"
DATASETS = ("Folder", "chestCT", "MedMNIST")
"""Data sets that can be annotated."""
CLASSIFIER: dict[str, Any] = {
    "weights": "IMAGENET1K", "trainable": "head", "optimizer": "newton", "weight_decay": 0.1,
    "class_weights": "balanced",
}  # fmt: skip
"""A linear layer on frozen ImageNet features, trained to convergence in a fraction of a second: the
steadiest where labels are few, see RESULTS.md. Settings of a project may say otherwise."""
NOT_OF_FILES = (
    "n_train", "n_test", "test_fraction", "split_seed", "labels", "class_names", "on_error",
    "max_skipped",
)  # fmt: skip
"""Arguments of readers that say which images there are, and not what becomes of one."""
NETWORKS = {2: "efficientnet_lite0", 3: "efficientnet_lite0_planes"}
"""By the dimensions of the images."""


@dataclass(frozen=True)
class Settings:
    """What a project is about, and how it asks.

    Raises:
        ValueError: a value that cannot be; names it.
    """

    root: str
    """Folder of the images."""
    dataset: str = "Folder"
    """How they lie there: images of any kind, "chestCT" (lesions of a csv file) or "MedMNIST"."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of their keys; empty: those of the data set."""
    method: str = "drla-embed-v1"
    """What chooses, as for ``benchmarks.run``."""
    query_size: int = 10
    """n_s, samples that are chosen at a time."""
    budget: int = 200
    """Samples that are asked about, those of the test set included."""
    audit: float = 0.2
    """Share of them that is drawn at random and held out as the test set."""
    twice: float = 0.1
    """Share of them that two people answer, once there are two."""
    ahead: bool = True
    """Choose each query while the one before it is answered: nobody waits for training, and a query
    is chosen by the model before the last. Otherwise people wait, and it is chosen by the last."""
    key: bool = False
    """Labels that the data set has are an answer key: nothing learns from them, and the page says
    how one does. Otherwise images that have a label are not asked about."""
    seed: int = 0
    """Of everything that is drawn."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Keywords of ``gymnasium.make`` that differ: of the reader, the classifier, the task."""

    def __post_init__(self) -> None:
        """Check every value."""
        check_one_of("dataset", self.dataset, DATASETS)
        check_at_least("query_size", self.query_size, 1)
        check_at_least("budget", self.budget, 1)
        check_at_least("seed", self.seed, 0)
        check_between("audit", self.audit, 0, 1, lower_included=True)
        check_between("twice", self.twice, 0, 1, True, True)
        check_bool("ahead", self.ahead)
        check_bool("key", self.key)
        if not isinstance(self.settings, dict):
            raise ValueError(f"settings must be keywords by name, not {self.settings!r}")
        for name in ("initial_set", "initial_size", "query_size", "budget", "skip_cost"):
            if name in self.settings:
                raise ValueError(f"settings: {name} is decided by the project; leave it out")
        if self.classes and self.dataset != "Folder":
            raise ValueError(f"classes are for folders; {self.dataset} has its own")


@dataclass(frozen=True, eq=False)
class Plan:
    """What is decided before anything is asked."""

    dataset: ImageDataset
    """The images, in training those that may be asked about by the method; labels that nobody has
    given in this project are ``UNKNOWN``."""
    audit: np.ndarray
    """(a,) rows of the test set that people label, in the order of asking; no row of the training
    set is of one of their patients."""
    twice: np.ndarray
    """(N,) bool, what two people answer."""
    truth: np.ndarray
    """(N,) int64, what the data set says; never seen by what learns."""
    n_known: int
    """Training images whose label is known from the beginning."""
    n_start: int
    """Images of the first query, which no model has chosen."""
    n_queries: int
    """Queries of the method after it."""

    def audited_with(self, query: int) -> np.ndarray:
        """Rows of the test set that are asked about with a query; an even share."""
        parts = self.n_queries + 1
        bounds = np.round(np.linspace(0, len(self.audit), parts + 1)).astype(int)
        return self.audit[bounds[query] : bounds[query + 1]]


class Project:
    """A folder, its settings and its answers.

    Args:
        folder: with ``project.json``.
        trust: whether code that it names, a method or a network of the user's own, may be run.

    Raises:
        FileNotFoundError: there is no project.
        CheckpointError: settings that are none of this program's, or damaged; or they name code,
            and ``trust`` is not set.
        ValueError: answers that are.
    """

    def __init__(self, folder: str | Path, trust: bool = False) -> None:
        self.folder = Path(folder)
        path = self.folder / SETTINGS
        if not path.is_file():
            raise FileNotFoundError(f"{self.folder} holds no project: there is no {SETTINGS}")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise CheckpointError("it holds no settings")
            known = {each.name for each in fields(Settings)}
            unknown = sorted(set(content) - known)
            if unknown:
                raise CheckpointError(f"unknown setting {unknown[0]!r}")
            content["classes"] = tuple(content.get("classes", ()))
            self.settings = Settings(**content)
            check_trusted(path, named_in(self.settings.settings, self.settings.method), trust)
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{path} cannot be used: {error}") from None
        durable.sweep(self.folder)
        self.store = Store(self.folder / ANSWERS)

    @classmethod
    def create(cls, folder: str | Path, settings: Settings) -> "Project":
        """A new project, or the one that is there if its settings are the same.

        Raises:
            ValueError: a project of other settings is there; names what differs. Or the folder is
                that of the images.
        """
        folder = Path(folder)
        if folder.resolve() == Path(settings.root).resolve():
            raise ValueError(
                f"{folder} is the folder of the images: choose another one for the project, whose "
                "results have names that files of images' labels have"
            )
        text = _text(settings)
        if (folder / SETTINGS).exists():
            there = cls(folder, trust=True)  # looked at only; code it names is named here, too
            wanted, found = json.loads(text), json.loads(_text(there.settings))
            changed = [name for name in wanted if wanted[name] != found[name]]
            if changed:
                raise ValueError(
                    f"{folder} holds a project of other settings ({', '.join(changed)} differ): "
                    "open it with --project alone, or choose another folder"
                )
            return there
        folder.mkdir(0o700, parents=True, exist_ok=True)  # names and answers are not for all
        _write(folder, settings)
        return cls(folder, trust=True)

    @classmethod
    def moved(cls, folder: str | Path, root: str, trust: bool = False) -> "Project":
        """A project whose images, the same ones, are in another folder than it knows.

        Args:
            folder: of the project.
            root: of the images.
            trust: see ``Project``.

        Raises:
            FileNotFoundError: there is no project, or there are no images.
            ValueError: they are others.
        """
        project = cls(folder, trust)
        project.settings = replace(project.settings, root=root)
        _ = project.plan  # before anything is changed
        _write(project.folder, project.settings)
        return project

    @cached_property
    def plan(self) -> Plan:
        """The images and what is decided before anything is asked; the seed decides it.

        Raises:
            ValueError: settings that do not fit the images; other images than the project began
                with.
            FileNotFoundError: they are not there.
        """
        found, _, _ = self._ingredients
        plan = planned(found, self.settings)
        names = "\n".join([*plan.dataset.class_names, *plan.dataset.names.tolist()])
        digest = hashlib.sha256(names.encode()).hexdigest()
        if self.store.fact("names") not in (None, digest):
            raise ValueError(
                f"{found.source} holds other images, or classes, than when the project began: put "
                "back what has changed, or begin a new project"
            )
        self.store.set_fact("names", digest)
        return plan

    @cached_property
    def _ingredients(self) -> tuple[ImageDataset, EnvConfig, ClassifierConfig]:
        return ingredients(
            self.settings.dataset, "embedded", self.settings.root, None, None, self._keywords
        )

    @cached_property
    def _keywords(self) -> dict[str, Any]:
        """Those of ``gymnasium.make`` that decide images and classifier."""
        s = self.settings
        given = dict(s.settings)
        if given.get("trainable", "head") == "head":
            given = {**CLASSIFIER, **given}
        if s.dataset == "chestCT":
            root = files.resolve_root("chestCT", s.root, f"It holds {chestct.ANNOTATIONS}")
            lesions, _ = chestct.read_annotations(root / chestct.ANNOTATIONS, unlabelled=True)
            ours = {"n_train": len(lesions), "n_test": 0, "patch_size": 32, "unlabelled": True}
            given = {**ours, **given}
        if s.dataset == "Folder":
            given.setdefault("test_fraction", 0.0)
            if s.classes:
                given["class_names"] = list(s.classes)
        return given

    @cached_property
    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of the channels of the training images, (C,) float32 each."""
        images = DeviceImages(self.plan.dataset.images, torch.device("cpu"))
        mean, deviation = images.channel_statistics(self.plan.dataset.train)
        return mean.flatten().numpy(), deviation.flatten().numpy()

    @property
    def reader_settings(self) -> dict[str, Any]:
        """The data set, and how its files become images: what another file must go through."""
        read = inspect.signature(READERS[self.settings.dataset]).parameters
        keywords = {k: v for k, v in self._keywords.items() if k in read and k not in NOT_OF_FILES}
        return {"dataset": self.settings.dataset, "keywords": keywords}

    @property
    def task(self) -> EnvConfig:
        """The settings of the environment."""
        s, plan = self.settings, self.plan
        return EnvConfig(
            initial_set="known" if plan.n_known else "typical",
            initial_size=None if plan.n_known else plan.n_start,
            query_size=s.query_size,
            budget=plan.n_known + s.budget - len(plan.audit),
        )

    @property
    def classifier(self) -> ClassifierConfig:
        """The settings of the classifier."""
        images, _, config = self._ingredients
        if config.trainable == "head" and "network" not in self.settings.settings:
            config = replace(config, network=NETWORKS[images.images.ndim - 2])
        return config


def _text(settings: Settings) -> str:
    return json.dumps(plain(asdict(settings)), indent=2)


def _write(folder: Path, settings: Settings) -> None:
    durable.write_text(folder / SETTINGS, _text(settings))


def planned(found: ImageDataset, settings: Settings) -> Plan:
    """Divide images into those that the method may ask about and those that make the test set.

    Test images are drawn one at a time from all that may be asked about; other images of their
    patients (``ImageDataset.groups``) are then asked about neither way. Test images of the data
    set's own, if their labels are known, take the place of such a draw.

    Raises:
        ValueError: there is less to ask about than the budget.
    """
    labels = np.full_like(found.labels, UNKNOWN) if settings.key else found.labels
    train = found.train
    rng = np.random.default_rng([settings.seed, 1])
    to_ask = train[labels[train] == UNKNOWN]
    has_test = len(found.test) > 0 and not settings.key
    wanted = 0 if has_test else round(settings.audit * settings.budget)
    known_groups = set(found.groups[np.setdiff1d(train, to_ask)].tolist())
    drawn = [row for row in rng.permutation(to_ask) if found.groups[row] not in known_groups]
    audit = np.array(drawn[:wanted], np.int64)
    held_out = np.isin(found.groups, found.groups[audit])
    train = train[~held_out[train]]
    n_known = int((labels[train] != UNKNOWN).sum())
    n_start = 0 if n_known else settings.query_size
    n_method = settings.budget - len(audit)
    if len(audit) < wanted or n_method > len(train) - n_known or n_method <= n_start:
        raise ValueError(
            f"budget={settings.budget} with audit={settings.audit} asks about {wanted} test images "
            f"and {n_method} others, in queries of {settings.query_size}; there are "
            f"{len(drawn)} images to draw test images from, and {len(train) - n_known} that are "
            "not of their patients. Ask for fewer, or for another audit"
        )
    test = found.test if has_test else np.array([], np.int64)
    shown = np.where(np.isin(np.arange(len(labels)), test), found.labels, labels)
    dataset = replace(
        found, labels=shown, train=train, test=test, validation=np.array([], np.int64)
    )
    n_queries = -(-(n_method - n_start) // settings.query_size)
    twice = np.random.default_rng([settings.seed, 3]).random(len(labels)) < settings.twice
    return Plan(dataset, audit, twice, found.labels, n_known, n_start, n_queries)
