"""What asks and trains: a process of its own beside the page, so that training blocks nobody.

    python -m al_gym.annotate.trainer [--trust] PROJECT

The loop is that of any program over ``env.step``: a policy scores the pool, the best are asked
about, the classifier is trained on the answers. Where ``Settings.ahead`` is set, the query after
the next is chosen, and queued, before people have answered the next: they label on while the
classifier is trained. Which model chooses what follows from this order alone and not from how fast
people are, so that the same answers give the same run, to the bit.

Stopped and started again, it begins with the seed and goes through the answers that are there,
which with a linear layer takes seconds.
"""

import errno
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from filelock import FileLock, Timeout

from al_gym.annotate import model
from al_gym.annotate.human import POLL, HumanAnnotator, Stopped
from al_gym.annotate.project import Plan, Project
from al_gym.annotate.store import Asked, NotSaved, Store
from al_gym.annotators import Annotator
from al_gym.env import ActiveLearningEnv
from al_gym.import_paths import imported
from al_gym.run import Run

POLICIES = "benchmarks.matrix.methods:policy_of"
"""Where methods are known by name; this package knows none, as it knows no agent."""
LOCK = "trainer.lock"
TRUST = "--trust"
ERROR, TRAINING = "trainer_error", "training"
"""Facts for the page: why the trainer has ended; the number of the model that is being trained."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a disk that is full."""
AGAIN = 75
"""Exit status of a trainer that could not write: it may be started again when there is room."""


class Questions:
    """An annotator that queues what is asked beside each query, and then asks.

    Args:
        store: the queue.
        plan: which images are asked about for the test set, and which are asked twice.
        seed: of the order within a query.
        annotator: who answers what the environment asks.
    """

    def __init__(self, store: Store, plan: Plan, seed: int, annotator: Annotator) -> None:
        self.store, self.plan, self.seed, self.annotator = store, plan, seed, annotator
        self.answered_at = time.monotonic()
        """When the last query was answered, since when the classifier is trained."""
        self.n_trained = 0 if plan.n_start else 1
        """Queries that were answered, and the number of the model that learns from the next."""
        self._has_begun = not plan.n_start
        if self._has_begun:
            self.queue(0, np.array([], np.int64), None)

    def queue(self, query: int, rows: np.ndarray, model: int | None) -> None:
        """Ask about images, and the share of the test set that goes with them, in random order."""
        purpose = "method" if query else "start"
        asked = [self._asked(row, purpose) for row in rows]
        asked += [self._asked(row, "audit") for row in self.plan.audited_with(query)]
        order = np.random.default_rng([self.seed, 2, query]).permutation(len(asked))
        self.store.ask([asked[i] for i in order], query, model)

    def annotate(self, indices: np.ndarray) -> np.ndarray:
        """See ``Annotator``; the first images are queued now, all others have been."""
        if not self._has_begun:
            self._has_begun = True
            self.queue(0, indices, None)
            # answered while the first model is trained, before which nothing can be chosen
            self.store.ask(
                [self._asked(row, "audit") for row in self.plan.audited_with(1)], 1, None
            )
        labels = self.annotator.annotate(indices)
        self.answered_at = time.monotonic()
        self.store.set_fact(TRAINING, str(self.n_trained))
        self.n_trained += 1
        return labels

    def _asked(self, row: int, purpose: str) -> Asked:
        return Asked(int(row), purpose, 1 + int(self.plan.twice[row]))


def train(project: Project, annotator: Annotator, say: Callable[[str], None] = print) -> Run:
    """Ask and train until the budget is used up; returns the run at its end.

    Args:
        project: what is asked, and with what.
        annotator: who answers; for people a ``HumanAnnotator`` over the project's store.
        say: told what happens.

    Raises:
        ValueError: settings that do not fit the images.
        al_gym.annotate.human.Stopped: the annotator was told to stop.
    """
    plan, settings, store = project.plan, project.settings, project.store
    questions = Questions(store, plan, settings.seed, annotator)
    plain = ActiveLearningEnv(plan.dataset, project.task, project.classifier, annotator=questions)
    env: gym.Env[Any, Any]
    env, policy = imported(POLICIES)(settings.method, plain, settings.seed)
    run = plain.run
    observation, _ = env.reset(seed=settings.seed)
    trained_in = time.monotonic() - questions.answered_at
    planned: list[np.ndarray] = []  # queries that are queued: pool rows, best first
    for number in itertools.count():  # of the model, and of the query that it has learned from
        if not run.is_over:
            scores = run.task.checked_action(policy.predict(observation)[0])
            while len(planned) < 1 + settings.ahead and len(rows := _best(run, scores, planned)):
                planned.append(rows)
                questions.queue(number + len(planned), _images(run, rows), number)
        _record(project, run, number, trained_in, planned)
        say(f"model {number}, trained on {len(run.episode.pool.labelled)} labels")
        if not planned:
            break
        correct(run, store, number + 1)
        rows = planned.pop(0)
        observation, *_ = env.step(_action(run, rows))
        trained_in = time.monotonic() - questions.answered_at
    return run


def _best(run: Run, scores: np.ndarray, planned: Sequence[np.ndarray]) -> np.ndarray:
    """Pool rows of a query, best first, after those that are planned have been asked about."""
    pool, n = run.episode.pool, run.task.n_affordable(run.episode.pool)
    available = pool.available.copy()
    for rows in planned:
        available[rows] = False
        n -= len(rows)
    return replace(pool, available=available).top(scores, min(run.config.query_size, n))


def _images(run: Run, rows: np.ndarray) -> np.ndarray:
    return run.episode.pool.indices[rows]


def _action(run: Run, rows: np.ndarray) -> np.ndarray:
    """Scores by which the environment asks about these pool rows, in their order."""
    action = np.zeros(run.task.n_pool, np.float32)
    action[rows] = np.linspace(1, 0.5, len(rows), dtype=np.float32)
    return action


def correct(run: Run, store: Store, step: int, retrain: bool = False) -> bool:
    """Give the run what people have changed since; whether there was something."""
    changes = store.corrections(step)
    if changes:
        run.correct(np.array(list(changes)), np.array(list(changes.values())), retrain)
    return bool(changes)


def _record(
    project: Project, run: Run, number: int, seconds: float, queued: Sequence[np.ndarray] = ()
) -> None:
    """Note a model, what it thinks of the test images and of those queued, and save the last."""
    plan, store = project.plan, project.store
    asked = [_images(run, rows) for rows in queued]
    images = np.unique(np.concatenate([plan.audit, plan.dataset.test, *asked])).astype(np.int64)
    known = [each[0] for each in store.models()]
    n_labelled = len(run.episode.pool.labelled)
    if number not in known:
        store.add_model(number, n_labelled, seconds, images, run.predict(images))
    store.set_fact(TRAINING, "")
    if number >= max(known, default=0):
        model.save_model(
            project.folder, run, plan.dataset, project.reader_settings, project.statistics
        )


def go_on(
    project: Project, run: Run, annotator: HumanAnnotator, say: Callable[[str], None]
) -> None:
    """After the budget is used up: train anew whenever people change an answer, until stopped."""
    step = number = run.episode.step + 1  # begun anew, it goes through what was changed before
    seen = None
    while True:
        version = project.store.version()
        if version != seen and not project.store.has_corrections(step):
            seen = version
        elif version != seen:
            began = time.monotonic()
            if correct(run, project.store, step, retrain=True):
                _record(project, run, number, time.monotonic() - began)
                say(f"model {number}, trained anew on changed answers")
                number += 1
            step += 1
        annotator.while_waiting()
        if annotator.stop.is_set():
            raise Stopped("asked to stop")
        time.sleep(POLL)


def main(arguments: list[str]) -> int:
    """Train for the project of a folder until told to stop; returns the exit status.

    Args:
        arguments: perhaps ``--trust``, see ``Project``; the folder; perhaps the process that has
            started this one, with which it ends. It may have gone before Python has come so far, so
            that asking for it now is too late.
    """
    trust = arguments[0] == TRUST
    arguments = arguments[trust:]
    project = Project(arguments[0], trust)
    stop = threading.Event()
    parent = int(arguments[1]) if len(arguments) > 1 else os.getppid()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stop.set())

    def end_with_parent() -> None:
        if os.getppid() != parent:
            stop.set()

    lock = FileLock(project.folder / LOCK)
    said = False
    while not lock.is_locked:  # the trainer of a page that was killed may still be training
        end_with_parent()
        if stop.is_set():
            return 0
        try:
            lock.acquire(timeout=1)
        except Timeout:
            if not said:
                said = True
                print(f"another trainer works on {project.folder}; waiting", file=sys.stderr)
    try:
        project.store.set_fact(ERROR, "")
        human = HumanAnnotator(project.store, stop=stop, while_waiting=end_with_parent)
        run = train(project, human)
        go_on(project, run, human, print)
    except Stopped:
        return 0
    except Exception as error:
        if isinstance(error, NotSaved) or getattr(error, "errno", None) in FULL:
            print(f"the trainer cannot write: {error}", file=sys.stderr)
            return AGAIN
        project.store.set_fact(ERROR, f"{type(error).__name__}: {error}")
        raise
    finally:
        lock.release()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
