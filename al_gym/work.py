"""What environments ask of their classifiers, carried out for one or for many at once.

``reset`` and ``step`` are generators that yield their work and are sent the answer. A single
environment runs its own; ``ActiveLearningVectorEnv`` runs those of all its environments in lockstep
and carries out the same work of all of them together. So there is one Algorithm 1 for both.
"""

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from al_gym import metrics
from al_gym.classifier import Classifier, NetworkClassifier
from al_gym.heads import HeadClassifier, LinearHeads, Some

T = TypeVar("T")


@dataclass(frozen=True)
class Fit:
    """Train; the answer is None. See ``Classifier.fit``."""

    rows: np.ndarray
    labels: np.ndarray
    passes: int
    rng: np.random.Generator


@dataclass(frozen=True)
class Predict:
    """Softmax of rows, as a float32 array (n, M) on the host."""

    rows: np.ndarray


@dataclass(frozen=True)
class Score:
    """``metrics.Scores`` of the predictions of rows with the true ``labels``."""

    rows: np.ndarray
    labels: np.ndarray


Work = Fit | Predict | Score
Program = Generator[Work, Any, T]
"""Yields work, is sent the answers, returns a T."""


def run(classifiers: Sequence[Classifier], programs: Sequence[Program[T]]) -> list[T]:
    """Run programs side by side to their ends; each has a classifier of its own.

    Raises:
        Exception: whatever one of them, or its work, raises; the others are left where they are.
    """
    results: dict[int, T] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(programs)))
    while answers:
        requests: dict[int, Work] = {}
        for k, answer in answers.items():
            try:
                requests[k] = programs[k].send(answer)
            except StopIteration as end:
                results[k] = end.value
        answers = {}
        for kind in (Fit, Predict, Score):
            of_kind = {k: work for k, work in requests.items() if isinstance(work, kind)}
            if of_kind:
                done = carry_out([classifiers[k] for k in of_kind], list(of_kind.values()))
                answers |= zip(of_kind, done, strict=True)
    return [results[k] for k in range(len(programs))]


def carry_out(classifiers: Sequence[Classifier], work: Sequence[Any]) -> list[Any]:
    """Answers to work of one kind, each for its classifier.

    Raises:
        FloatingPointError: a classifier has diverged.
    """
    if isinstance(work[0], Fit):
        _fit(classifiers, work)
        return [None] * len(work)
    softmax = _predict(classifiers, work)
    if isinstance(work[0], Predict):
        return [
            classifier.on_host(each) for classifier, each in zip(classifiers, softmax, strict=True)
        ]
    return _score(classifiers, work, softmax)


def _fit(classifiers: Sequence[Classifier], work: Sequence[Fit]) -> None:
    chosen = _heads_of(classifiers)
    if chosen is not None and len({(len(each.rows), each.passes) for each in work}) == 1:
        heads, indices = chosen
        heads.fit(
            indices,
            [each.rows for each in work],
            [each.labels for each in work],
            work[0].passes,
            [each.rng for each in work],
        )
        for classifier, each in zip(classifiers, work, strict=True):
            classifier.counters.samples_trained += each.passes * len(each.rows)
    elif len(work) > 1 and all(_has_stream(classifier) for classifier in classifiers):
        _fit_in_streams(classifiers, work)
    else:
        for classifier, each in zip(classifiers, work, strict=True):
            classifier.fit(each.rows, each.labels, each.passes, each.rng)


STREAMS = 16
"""Classifiers trained at once: PyTorch has 32 streams a device and then gives them out again."""


def _fit_in_streams(classifiers: Sequence[Classifier], work: Sequence[Fit]) -> None:
    """A thread and a CUDA stream each: the kernels of one fill the gaps that another leaves."""

    def fit(classifier: Classifier, each: Fit) -> None:
        classifier.fit(each.rows, each.labels, each.passes, each.rng)

    # cuDNN's settings belong to the process: set here, no thread changes them under another
    assert isinstance(classifiers[0], NetworkClassifier)
    with classifiers[0].kernels(), ThreadPoolExecutor(STREAMS) as pool:
        for start in range(0, len(work), STREAMS):
            chunk = slice(start, start + STREAMS)
            list(pool.map(fit, classifiers[chunk], work[chunk]))


def _predict(classifiers: Sequence[Classifier], work: Sequence[Predict | Score]) -> list[Tensor]:
    chosen = _heads_of(classifiers)
    if chosen is None:
        return [
            classifier.predict(each.rows)
            for classifier, each in zip(classifiers, work, strict=True)
        ]
    heads, indices = chosen
    softmax, n_forwarded = heads.predict(indices, [each.rows for each in work])
    for classifier, n in zip(classifiers, n_forwarded, strict=True):
        classifier.counters.samples_forwarded += n
    return softmax


def _score(
    classifiers: Sequence[Classifier], work: Sequence[Score], softmax: list[Tensor]
) -> list[metrics.Scores]:
    """Together where the truth is the same, as on the test set, and only the scores travel."""
    labels = work[0].labels
    if any(not np.array_equal(each.labels, labels) for each in work):
        return [
            score
            for classifier, each, probabilities in zip(classifiers, work, softmax, strict=True)
            for score in _score([classifier], [each], [probabilities])
        ]
    truth = torch.as_tensor(labels, device=classifiers[0].device)
    scores = metrics.score(torch.stack(softmax), truth)
    for classifier, score in zip(classifiers, scores, strict=True):
        classifier.counters.bytes_to_host += metrics.N_BYTES
        if not np.isfinite(score.cross_entropy):
            raise classifier.diverged()
    return scores


def _heads_of(classifiers: Sequence[Classifier]) -> tuple[LinearHeads, Some] | None:
    """What several classifiers are members of, if they are, and which of its heads they are."""
    first = classifiers[0]
    if not isinstance(first, HeadClassifier):
        return None
    indices = [c.slice.start for c in classifiers if isinstance(c, HeadClassifier)]
    n_heads = len(first.heads.weight)
    return first.heads, slice(None) if indices == list(range(n_heads)) else indices


def _has_stream(classifier: Classifier) -> bool:
    return (
        isinstance(classifier, NetworkClassifier)
        and classifier.stream is not None
        and not classifier.may_draw
    )
