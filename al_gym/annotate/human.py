"""A person, or several, as the annotator of an environment."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from al_gym.annotate.store import Asked, Store

POLL = 0.05
"""Seconds between looks at the answers, which another process writes."""


class Stopped(InterruptedError):
    """Waiting for answers was ended; nothing that was asked or answered is lost."""


class HumanAnnotator:
    """Asks people, who answer on the page of ``python -m al_gym.annotate``.

    ``gymnasium.make(..., annotator=HumanAnnotator("project/answers.sqlite"))`` puts a person into
    any loop over ``env.step``: a step queues its samples and waits. Whatever ends the wait
    (``timeout``, ``stop``, Ctrl-C), the environment is as it was before the step, what was answered
    is on disk, and the same step done again, be it in another process, asks only for what is
    missing. A run that is begun anew with the same seed goes through the answers that are there
    without waiting.

    A sample keeps the label with which it was first trained; what people change later is given by
    ``Store.corrections``.

    Args:
        store: the answers, or the path of their file.
        timeout: seconds to wait for the answers to one query; None: for ever.
        stop: ends a wait when it is set.
        while_waiting: called about twenty times a second during a wait; what it raises ends it.
    """

    def __init__(
        self,
        store: Store | str | Path,
        *,
        timeout: float | None = None,
        stop: threading.Event | None = None,
        while_waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self.store = store if isinstance(store, Store) else Store(store)
        self.timeout, self.while_waiting = timeout, while_waiting
        self.stop = stop or threading.Event()
        self.step = 0
        """The number of the query, with which answers are noted as used."""
        self.model: int | None = None
        """Which model asks."""

    def annotate(self, indices: np.ndarray) -> np.ndarray:
        """Classes (n,) int64 of the samples (n,), rows of the data set; -1 where nobody could tell.

        Raises:
            TimeoutError: not all were answered in ``timeout`` seconds.
            Stopped: ``stop`` was set.
            al_gym.annotate.store.NotSaved: the disk is full, or fails.
        """
        samples = [int(index) for index in indices]
        purpose = "method" if self.step else "start"
        self.store.ask([Asked(sample, purpose) for sample in samples], self.step, self.model)
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        seen = None
        while True:
            version = self.store.version()
            if version != seen:
                labels = self.store.take(samples, self.step)
                if labels is not None:
                    self.step += 1
                    return labels
                seen = version  # of before: an answer that came meanwhile is seen the next time
            if self.stop.is_set():
                raise Stopped("asked to stop while people answer; their answers are kept")
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(
                    f"{len(samples)} samples were not all answered within {self.timeout} s; the "
                    "answers that came are kept, and the same step may be done again"
                )
            self.while_waiting()
            time.sleep(POLL)
