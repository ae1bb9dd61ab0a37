"""People for tests: they answer what is asked, from another thread or another process."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from al_gym.annotate.store import Store


@contextlib.contextmanager
def answering(
    path: Path, label_of: Callable[[int], int], person: str = "ann", at_most: int = 10**9
) -> Iterator[list[int]]:
    """Somebody who answers in a thread of their own; the samples, in the order of the answers."""
    finished, answered = threading.Event(), []

    def work() -> None:
        store = Store(path)
        store.join(person)
        while not finished.is_set() and len(answered) < at_most:
            question = store.next_for(person)
            if question is None:
                time.sleep(0.005)
                continue
            store.answer(question.sample, person, label_of(question.sample), 1.0)
            answered.append(question.sample)
        store.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield answered
    finally:
        finished.set()
        thread.join()


def answer_for_ever(path: str, modulus: int) -> None:
    """Somebody in a process of their own, who takes rows modulo a number for classes."""
    with answering(Path(path), lambda row: row % modulus):
        while True:
            time.sleep(1)


if __name__ == "__main__":
    answer_for_ever(sys.argv[1], int(sys.argv[2]))
