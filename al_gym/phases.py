"""The phases of Algorithm 1, each for several runs at once.

All runs of a call belong to one loop: their classifiers do the same work together.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from al_gym import metrics, rewards
from al_gym.classifiers import Lesson
from al_gym.classifiers.devices import to_host
from al_gym.data.dataset import UNKNOWN
from al_gym.episode import Episode, Query, Start
from al_gym.errors import NotFiniteError
from al_gym.metrics import NOT_MEASURED, Evaluation
from al_gym.pool import Pool

if TYPE_CHECKING:
    from al_gym.run import Run


def pretrain(
    runs: Sequence["Run"],
    seeds: Sequence[int],
    given: np.ndarray | None = None,
    labels: np.ndarray | None = None,
) -> None:
    """Give every run the start of its seed; if it is the run's last one, restore the weights.

    Args:
        runs: of one loop.
        seeds: of each.
        given: ascending data-set rows of the initial set; None: as the settings and the seed say.
        labels: their classes, where they are known from before.
    """
    new: list[tuple[Run, int, np.ndarray, np.ndarray]] = []
    lessons: list[Lesson] = []
    for run, seed in zip(runs, seeds, strict=True):
        if run.start is not None and run.start.is_of(seed, given, labels):
            run.classifiers.load_state_dict(run.k, run.start.classifier)
            continue
        split_rng, weights_rng, fit_rng, noise_rng = generators(seed)
        run.classifiers.initialize(run.k, weights_rng)
        run.annotator = run.own_annotator or run.built_in_annotator(noise_rng)
        rows = run.draw_initial_set(split_rng) if given is None else given
        classes = run.initial_labels(rows) if labels is None else labels
        new.append((run, seed, rows, classes))
        told = classes != UNKNOWN
        lessons.append(Lesson(run.k, rows[told], classes[told], fit_rng))
    if not new:
        return
    some = [run for run, *_ in new]
    some[0].classifiers.fit(lessons, some[0].classifiers.config.pretrain_passes)
    states = softmax(some, [np.setdiff1d(run.task.training, rows) for run, _, rows, _ in new])
    validation = evaluations(some, [run.task.validation for run in some])
    test = evaluations(some, [run.task.dataset.test for run in some])
    for i, (run, seed, rows, classes) in enumerate(new):
        run.start = Start(
            seed, rows, classes, given is None, run.classifiers.state_dict(run.k), states[i],
            validation[i], test[i] or NOT_MEASURED,
        )  # fmt: skip


def update(runs: Sequence["Run"], pools: Sequence[Pool]) -> None:
    """Train on with what is labelled now; from new weights with ``update="scratch"``."""
    classifiers = runs[0].classifiers
    passes = classifiers.config.update_passes
    if classifiers.config.update == "scratch":
        passes = classifiers.config.pretrain_passes
        for run in runs:
            classifiers.initialize(run.k, run.rng)
    lessons = [
        Lesson(run.k, pool.labelled, pool.labels, run.rng)
        for run, pool in zip(runs, pools, strict=True)
    ]
    classifiers.fit(lessons, passes)


def states(runs: Sequence["Run"], pools: Sequence[Pool]) -> list[np.ndarray]:
    """S, Eq. 2: the softmax of each pool; rows that have left it are zero and cost nothing."""
    wanted = [
        pool.available if run.task.config.labelled_rows == "zero" else np.ones_like(pool.available)
        for run, pool in zip(runs, pools, strict=True)
    ]
    asked = [i for i, rows in enumerate(wanted) if rows.any()]
    found = softmax([runs[i] for i in asked], [pools[i].indices[wanted[i]] for i in asked])
    result = [np.zeros((run.task.n_pool, run.task.dataset.n_classes), np.float32) for run in runs]
    for i, rows in zip(asked, found, strict=True):
        result[i][wanted[i]] = rows
    return result


def judged(
    runs: Sequence["Run"],
    before: Sequence[Episode],
    selected: Sequence[np.ndarray],
    answers: Sequence[np.ndarray],
) -> list[Query]:
    """What was asked and answered, with the predictions that Eq. 3 judges.

    They are those in S, or with ``reward_timing="after_update"`` those of the classifier now.
    """
    seen = [episode.softmax[rows] for episode, rows in zip(before, selected, strict=True)]
    now = [i for i, run in enumerate(runs) if run.config.reward_timing == "after_update"]
    images = [before[i].pool.indices[selected[i]] for i in now]
    for i, predicted in zip(now, softmax([runs[i] for i in now], images), strict=True):
        seen[i] = predicted
    return [
        Query(rows, labels, each, rewards.sample_rewards(each, labels))
        for rows, labels, each in zip(selected, answers, seen, strict=True)
    ]


def softmax(runs: Sequence["Run"], indices: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each classifier's predictions of its own images, (n, M) float32 on the host.

    Raises:
        NotFiniteError: predictions that are NaN or infinite.
    """
    if not runs:
        return []
    predicted = runs[0].classifiers.predict([run.k for run in runs], indices)
    counters = runs[0].classifiers.counters
    values = [to_host(each, counters[run.k]) for run, each in zip(runs, predicted, strict=True)]
    for run, each, rows in zip(runs, values, indices, strict=True):
        finite = np.isfinite(each)
        if not finite.all():
            raise _not_finite(run, rows[~finite.all(1)], len(rows))
    return values


def evaluations(runs: Sequence["Run"], indices: Sequence[np.ndarray]) -> list[Evaluation | None]:
    """How well each classifier predicts images of the data set; None where there are none to do.

    Runs with the same images, as on the test set, are evaluated together, and only the three
    numbers of each leave the device, and the predicted classes of runs that keep them.

    Raises:
        NotFiniteError: predictions that are NaN or infinite.
    """
    found: list[Evaluation | None] = [None] * len(runs)
    asked = [i for i, each in enumerate(indices) if len(each)]
    if not asked:
        return found
    classifiers = runs[0].classifiers
    predicted = classifiers.predict([runs[i].k for i in asked], [indices[i] for i in asked])
    labels = [runs[i].task.dataset.labels[indices[i]] for i in asked]
    together = all(np.array_equal(each, labels[0]) for each in labels)
    groups = [range(len(asked))] if together else [range(j, j + 1) for j in range(len(asked))]
    for group in groups:
        truth = torch.as_tensor(labels[group[0]], device=classifiers.device)
        evaluations = metrics.evaluate(torch.stack([predicted[j] for j in group]), truth)
        for j, evaluation in zip(group, evaluations, strict=True):
            run = runs[asked[j]]
            counters = classifiers.counters[run.k]
            counters.bytes_to_host += metrics.N_BYTES
            if not np.isfinite(evaluation.cross_entropy):  # as it is of any row that is not
                finite = predicted[j].isfinite().all(1).cpu().numpy()
                raise _not_finite(run, indices[asked[j]][~finite], len(finite))
            if run.keeps_predictions:
                classes = to_host(metrics.classes(predicted[j]), counters)
                evaluation = replace(evaluation, predicted=classes)
            found[asked[j]] = evaluation
    return found


def _not_finite(run: "Run", rows: np.ndarray, n_asked: int) -> NotFiniteError:
    """What to raise when predictions of some data-set rows, of so many, are NaN or infinite."""
    rate, name = run.classifier_config.learning_rate, run.dataset.names[rows[0]]
    if len(rows) == n_asked:
        problem = f"all {n_asked} images are NaN or infinite: it has diverged."
        remedy = f"Lower learning_rate ({rate}); a network of your own may also return such numbers"
    else:
        problem = f"{len(rows)} of {n_asked} images are NaN or infinite, the first {name}"
        problem += f" (data-set row {rows[0]})."
        remedy = (
            "Look at that image, and at what the network makes of it; if it is like the others, "
            f"the classifier has diverged. Lower learning_rate ({rate}) then"
        )
    error = NotFiniteError(f"the classifier's predictions of {problem} {remedy}")
    error.k, error.classifier = run.k, run.classifiers.state_dict(run.k)
    return error


def generators(seed: int) -> list[np.random.Generator]:
    """What a start needs, each independent: initial set, weights, pretraining, annotator."""
    return [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(4)]
