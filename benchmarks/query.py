"""Which images to label next: train on those that are labelled, rank the others, write a list.

    python -m benchmarks.query --root images --n 20 --out next.csv
    python -m benchmarks.query --root scans --labels labels.csv --method typiclust

reads labelled and unlabelled images of your own in one of the layouts of docs/data.md: a folder
``unlabelled`` beside those of the classes, or a label csv that leaves cells of labels empty. The
classifier is trained on all labelled images, once; the method, a strategy or a trained policy,
scores the others. ``next.csv`` has a line for each of the best: rank, file, the class that the
classifier predicts, its probability, and the method's score.

Label these, and run it again. The same seed gives the same list.
"""

import csv
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from al_gym import durable
from al_gym.config import check_at_least, parsed_setting
from benchmarks.matrix import methods
from benchmarks.matrix.methods import Method

if TYPE_CHECKING:
    from al_gym.env import ActiveLearningEnv
    from al_gym.run import Run

SHOWN = 5
"""Files named on the terminal."""
COLUMNS = ("rank", "file", "predicted", "probability", "score")


@dataclass(frozen=True)
class QueryConfig:
    """Say which images to label next."""

    root: Path | None = None
    """Folder of the images; otherwise $AL_GYM_DATA/Folder."""
    labels: Path | None = None
    """Csv of the labels, with columns file and label; otherwise labels.csv in the folder if it is
    there, else the names of folders are the labels."""
    method: str = "ms"
    """What ranks the images: random lc ms en fusion eq3, badge coreset typiclust probcover bald
    uherding bait, the trained policies drla-transfer drla-embed, or one of your own, as for
    benchmarks.run."""
    n: int = 20
    """Images to list."""
    out: Path = Path("next.csv")
    """Where to write the list."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Any other keyword of gymnasium.make, as for benchmarks.run: network=efficientnet_lite0
    weights=IMAGENET1K trainable=head learning_rate=0.001. No test images are drawn from the
    labelled ones unless test_fraction=0.3, say, asks for them."""
    seed: int = 0
    """Of the classifier's weights and of everything random in the method."""
    overwrite: bool = False
    """Replace a list that is there."""


def main(config: QueryConfig) -> int:
    """Write the list, and say what was done; returns the exit status.

    Raises:
        ValueError: a method that cannot choose, nothing that is labelled, or that is not; settings
            that do not fit; a list that is there already.
        FileNotFoundError: the images are not there.
    """
    check_at_least("n", config.n, 1)
    if config.out.exists() and not config.overwrite:
        raise ValueError(f"{config.out} is there already: choose another --out, or --overwrite")
    method = methods.choosing(config.method)
    env = environment(config)
    ranking = rank(env, method.name, config.seed)
    write(ranking, config.out)
    print("\n".join(told(env.run, method, ranking, config)))
    return 0


def environment(config: QueryConfig) -> "ActiveLearningEnv":
    """The environment that begins with all labels known, and would ask for the next ``n``.

    Raises:
        ValueError: no training image is labelled, or all are; settings that do not fit.
        FileNotFoundError: the images are not there.
    """
    from al_gym import ActiveLearningEnv  # here, as it imports torch
    from al_gym.data.dataset import UNKNOWN
    from al_gym.make import ingredients

    given = dict(parsed_setting(setting, "--set") for setting in config.set)
    for name in ("initial_set", "query_size", "budget"):
        if name in given:
            raise ValueError(
                f"--set {name} is not for benchmarks.query, whose --n and labels say it"
            )
    reader = given.pop("reader", None)
    ours: dict[str, Any] = {"initial_set": "known"}
    if reader is None:
        ours["test_fraction"] = 0.0
    if config.labels is not None:
        ours["labels"] = config.labels
    images, task, training = ingredients("Folder", "auto", config.root, reader, None, ours | given)
    n_unknown = int((images.labels[images.train] == UNKNOWN).sum())
    if n_unknown == len(images.train):
        raise ValueError(
            f"{images.source}: no training image is labelled, so there is nothing to learn from. "
            "Label a few of each class first"
        )
    if n_unknown == 0:
        raise ValueError(f"{images.source}: every training image is labelled, so none is left")
    task = replace(task, query_size=min(config.n, n_unknown))
    return ActiveLearningEnv(images, task, training)


@dataclass(frozen=True)
class Choice:
    """An image to label."""

    file: str
    predicted: str
    """Name of the class that the classifier finds most probable."""
    probability: float
    """Of that class."""
    score: float
    """The method's."""


def rank(env: "ActiveLearningEnv", method: str, seed: int) -> list[Choice]:
    """Train the classifier on what is labelled, and list what the method would ask for, best first.

    Args:
        env: of ``environment``.
        method: a name, see ``methods.choosing``.
        seed: of both.
    """
    observed, policy = methods.policy_of(method, env, seed)
    observation, _ = observed.reset(seed=seed)
    scores = env.run.task.checked_action(policy.predict(observation)[0])
    rows = env.run.select(scores)
    dataset, episode = env.run.dataset, env.run.episode
    return [
        Choice(
            str(dataset.names[episode.pool.indices[row]]),
            dataset.class_names[episode.softmax[row].argmax()],
            float(episode.softmax[row].max()),
            float(scores[row]),
        )
        for row in rows
    ]


def write(ranking: list[Choice], path: Path) -> None:
    """The list as csv, a line an image."""
    with (
        durable.writing(path) as unfinished,
        unfinished.open("w", encoding="utf-8", newline="") as file,
    ):
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(COLUMNS)
        lines.writerows(
            [place, each.file, each.predicted, f"{each.probability:.4f}", f"{each.score:.6f}"]
            for place, each in enumerate(ranking, 1)
        )


def told(run: "Run", method: Method, ranking: list[Choice], config: QueryConfig) -> list[str]:
    """What was done, in plain words, a line each."""
    dataset, pool, test = run.dataset, run.episode.pool, run.episode.test
    counts = np.bincount(pool.labels, minlength=dataset.n_classes)
    classes = ", ".join(f"{name} {n}" for name, n in zip(dataset.class_names, counts, strict=True))
    how_good = "There are no test images, so how good the classifier is has not been measured."
    if len(dataset.test):
        how_good = (
            f"The classifier trained on them has macro F1 {test.macro_f1:.3f} and micro F1 "
            f"{test.micro_f1:.3f} on {len(dataset.test)} test images."
        )
    all_there_are = ", which are all there are" if len(ranking) < config.n else ""
    return [
        f"{len(pool.labels)} images are labelled: {classes}. {len(pool.indices)} are not.",
        how_good,
        f"To label next by {method.name}, {method.facts.what}:",
        *(
            f"{place:3}. {each.file} (predicted: {each.predicted}, {each.probability:.0%})"
            for place, each in enumerate(ranking[:SHOWN], 1)
        ),
        f"{config.out} lists {len(ranking)}{all_there_are}.",
    ]


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(QueryConfig, description=__doc__)))
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        sys.exit(f"benchmarks.query: {error}")
