"""Initial labelled sets: which images an episode begins with, and who says their classes."""

import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.cluster.vq import kmeans2

from al_gym.config import STARTS, EnvConfig
from al_gym.data import files
from al_gym.data.dataset import UNKNOWN, ImageDataset
from al_gym.names import hint
from al_gym.pool import per_class_counts, proportional_counts, stratified_draw

Features = Callable[[np.ndarray], np.ndarray]
"""From data-set rows (n,) to the untrained classifier's features of them, (n, F)."""


@dataclass(frozen=True)
class InitialSet:
    """What is known of the initial labelled set before its seed is."""

    size: int
    """Images in it."""
    is_asked: bool
    """Whether the annotator says their classes; otherwise they are the data set's."""
    draw: Callable[[np.random.Generator, Features], np.ndarray]
    """Ascending data-set rows; the generator decides them."""


def initial_set(dataset: ImageDataset, training: np.ndarray, config: EnvConfig) -> InitialSet:
    """The initial set that settings ask for.

    Args:
        dataset: the images.
        training: (n,) the rows that the episode is about.
        config: with ``initial_set``, ``initial_size`` and ``initial_fraction``.

    Raises:
        ValueError: settings that do not fit the data set; a line of the csv file that names no
            training image.
        FileNotFoundError: there is no such csv file.
    """
    kinds = dict(zip(STARTS, (_stratified, _random, _typical, _known), strict=True))
    return kinds.get(config.initial_set, _listed)(dataset, training, config)


def typical(features: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """The n images nearest to the centres of n k-means clusters, (n,) different row numbers.

    Lloyd's algorithm begins with n images drawn at random. The centres are then gone through in
    their order, and each takes the nearest image that is not taken yet. Images nearest to the
    centres of clusters are a good first query: Hacohen, Dekel and Weinshall, Active learning on a
    budget, ICML 2022.

    Args:
        features: (N, F) float32.
        n: how many, from 1 to N.
        rng: draws the first centres.
    """
    first = features[rng.choice(len(features), n, replace=False)]
    with warnings.catch_warnings():  # of a cluster without images; its centre then stays
        warnings.simplefilter("ignore", UserWarning)
        centres, _ = kmeans2(features, first, iter=20, minit="matrix")
    # squared distances, but for the centres' own squares, which do not decide
    features = features.astype(np.float64)
    distances = np.square(features).sum(1) - 2 * centres @ features.T
    taken = np.empty(n, np.int64)
    for i, row in enumerate(distances):
        row[taken[:i]] = np.inf
        taken[i] = row.argmin()
    return taken


def _stratified(dataset: ImageDataset, training: np.ndarray, config: EnvConfig) -> InitialSet:
    labels = dataset.labels[training]
    if config.initial_size is None:
        counts = per_class_counts(labels, dataset.class_names, config.initial_fraction)
    else:
        counts = proportional_counts(labels, dataset.n_classes, config.initial_size)
    return InitialSet(sum(counts), False, partial(_drawn_by_class, training, labels, counts))


def _drawn_by_class(
    rows: np.ndarray,
    labels: np.ndarray,
    counts: list[int],
    rng: np.random.Generator,
    features: Features,
) -> np.ndarray:
    return stratified_draw(rows, labels, counts, rng)


def _random(dataset: ImageDataset, training: np.ndarray, config: EnvConfig) -> InitialSet:
    size = _size(training, config)
    return InitialSet(size, True, partial(_drawn, training, size))


def _drawn(rows: np.ndarray, size: int, rng: np.random.Generator, features: Features) -> np.ndarray:
    return np.sort(rng.choice(rows, size, replace=False))


def _typical(dataset: ImageDataset, training: np.ndarray, config: EnvConfig) -> InitialSet:
    size = _size(training, config)
    draw = _drawn_typical if size else _drawn
    return InitialSet(size, True, partial(draw, training, size))


def _drawn_typical(
    rows: np.ndarray, size: int, rng: np.random.Generator, features: Features
) -> np.ndarray:
    return np.sort(rows[typical(features(rows), size, rng)])


def _size(training: np.ndarray, config: EnvConfig) -> int:
    """The number of images of an initial set that no class decides.

    Raises:
        ValueError: there are not as many.
    """
    if config.initial_size is None:
        return max(1, round(config.initial_fraction * len(training)))
    if config.initial_size > len(training):
        raise ValueError(
            f"initial_size={config.initial_size} is more than the {len(training)} training images"
        )
    return config.initial_size


def _known(dataset: ImageDataset, training: np.ndarray, config: EnvConfig) -> InitialSet:
    rows = np.sort(training[dataset.labels[training] != UNKNOWN])
    if len(rows) == len(training):
        raise ValueError(
            "initial_set='known' leaves no image to ask about: the label of every training image "
            "is known"
        )
    return InitialSet(len(rows), False, partial(_given, rows))


def _listed(dataset: ImageDataset, training: np.ndarray, config: EnvConfig) -> InitialSet:
    """The images that a csv file lists; one that is listed twice counts once."""
    path = Path(config.initial_set).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"initial_set: there is no file {path}")
    rows_of: dict[str, list[int]] = defaultdict(list)
    for name, row in zip(dataset.names[training].tolist(), training.tolist(), strict=True):
        rows_of[name].append(row)
    rows = []
    for line in files.read_table(path, ["file"])[0]:
        name = line.get("file", str)
        if name not in rows_of:
            raise line.error(
                f"no training image is called {name!r}{hint(name, list(rows_of))}. (Images held "
                "out by validation_fraction are none)"
            )
        if len(rows_of[name]) > 1:
            raise line.error(f"{len(rows_of[name])} training images are called {name!r}")
        rows += rows_of[name]
    listed = np.unique(rows)
    return InitialSet(len(listed), True, partial(_given, listed))


def _given(rows: np.ndarray, rng: np.random.Generator, features: Features) -> np.ndarray:
    return rows
