"""The answers as csv files, for people and for other programs.

    labels.csv     every answer that counts: who, when, how long, and what the model had thought
    final.csv      one label a sample, which ``al_gym.data.folder`` reads back as ``labels=``

and of chestCT the annotation file of the competition. Files are called as in
``ImageDataset.names``, by their paths below the root; of patients nothing is written, whatever the
files say of them. What could be a formula in a spreadsheet has a blank before it, see
``files.cell``.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from al_gym import durable
from al_gym.annotate.project import Project
from al_gym.annotate.store import SKIP
from al_gym.data import chestct, files
from al_gym.data.splits import split_name

LABELS, FINAL = "labels.csv", "final.csv"
COLUMNS = "file,class,who,when,seconds,unsure,review,purpose,test,thought,probability"


def write(project: Project, folder: str | Path | None = None) -> list[Path]:
    """Write the answers as they are now; each file at once or not at all.

    Args:
        project: whose answers.
        folder: where to; None: the folder of the project.

    Returns:
        The files.

    Raises:
        ValueError: the folder is that of the images, whose own labels would be written over.
        OSError: the disk is full, or fails.
    """
    folder = project.folder if folder is None else Path(folder)
    root = files.user_path("root", project.settings.root)
    if folder.resolve() in (root.resolve(), root.resolve().parent if root.is_file() else None):
        raise ValueError(
            f"{folder} holds the images, and perhaps labels of theirs: export to another folder"
        )
    written = [
        _table(folder / LABELS, COLUMNS, _answers(project)),
        _table(folder / FINAL, *_final(project)),
    ]
    if project.settings.dataset == "chestCT":
        path = folder / chestct.ANNOTATIONS
        written.append(_table(path, chestct.COLUMNS, _lesions(project, root)))
    return written


def labels_now(project: Project) -> dict[int, int]:
    """Class, or ``SKIP``, by row of the data set: the labels that it began with, then the settled.

    Of the data set's own labels those of an answer key are not among them.
    """
    began_with = project.plan.dataset.labels
    found = {int(row): int(began_with[row]) for row in np.flatnonzero(began_with != SKIP)}
    found.update(project.store.settled())
    return dict(sorted(found.items()))


def _table(path: Path, columns: str | Sequence[str], rows: Iterator[Sequence[Any]]) -> Path:
    with durable.writing(path) as unfinished:
        files.write_table(unfinished, columns, rows)
    return path


def _answers(project: Project) -> Iterator[Sequence[Any]]:
    """Lines of ``labels.csv``, in the order of answering."""
    plan, store = project.plan, project.store
    names, test = plan.dataset.names.tolist(), set(plan.audit.tolist())
    class_name = _class_names(project)
    answers = store.answers()  # first, so that each one's question is there
    questions = {question.sample: question for question in store.questions()}
    for answer in answers:
        question = questions[answer.sample]
        opinion = store.opinion(answer.sample, question.model)
        yield (
            files.cell(names[answer.sample]),
            class_name(answer.label),
            files.cell(answer.person),
            datetime.fromtimestamp(answer.at, timezone.utc).isoformat(timespec="seconds"),
            f"{answer.seconds:.2f}",
            int(answer.unsure),
            int(answer.review),
            question.purpose,
            int(answer.sample in test),
            "" if opinion is None else class_name(int(opinion.argmax())),
            "" if opinion is None else f"{opinion.max():.4f}",
        )


def _final(project: Project) -> tuple[str, Iterator[Sequence[Any]]]:
    """Columns and lines of ``final.csv``.

    The side of the split is there where a reader could not do without: of a data set that has test
    or validation images of its own, or a folder that is called as these are.
    """
    plan, now = project.plan, labels_now(project)
    names, class_name = plan.dataset.names.tolist(), _class_names(project)
    train = {*plan.dataset.train.tolist(), *project.store.settled()}
    test = set(plan.dataset.test.tolist())
    sides = {row: "test" if row in test else "train" if row in train else "validation"
             for row in now}  # fmt: skip
    is_split = len(set(sides.values()) - {"train"}) > 0 or any(
        split_name(part) for name in names for part in name.split("/")
    )

    def lines() -> Iterator[Sequence[Any]]:
        for row, label in now.items():
            side = [sides[row]] if is_split else []
            yield (files.cell(names[row]), class_name(label), *side)

    return "file,label,split" if is_split else "file,label", lines()


def _lesions(project: Project, root: Path) -> Iterator[Sequence[Any]]:
    """Lines of the competition's file: lesions of which the class is known, in its order."""
    names, codes = project.plan.dataset.names.tolist(), list(chestct.CLASSES)
    label_of = {names[row]: label for row, label in labels_now(project).items()}
    lesions, _ = chestct.read_annotations(root / chestct.ANNOTATIONS, unlabelled=True)
    for lesion in lesions:
        label = label_of.get(chestct.name_of(lesion), SKIP)
        if label != SKIP:
            cells = [lesion.row.values[column] for column in chestct.COLUMNS[:-1]]
            yield (files.cell(cells[0]), *cells[1:], codes[label])


def _class_names(project: Project) -> Callable[[int], str]:
    """From a label to its name; that of a skip is empty."""
    names = [files.cell(name) for name in project.plan.dataset.class_names]
    return lambda label: "" if label == SKIP else names[label]
