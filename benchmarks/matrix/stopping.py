"""Being told to stop: what runs gets to its next checkpoint, and nothing is left running."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

GRACE = 3.5
"""Seconds in which cells that run may get to where they can write a checkpoint. Then they end where
they are, and go on from their last one."""
NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal has asked to stop.

    Attributes:
        status: what the process is to exit with, as a shell would say.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.status = 128 + number


class Stop:
    """Whether to stop, which cells ask between their steps.

    Attributes:
        number: the signal that came; None: none has.
        deadline: when the grace is over, by ``time.monotonic``.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.deadline = float("inf")
        self._has_grace = False

    def check(self) -> None:
        """Between steps, once the checkpoint is written.

        Raises:
            Stopped: a signal has come.
        """
        if self.number is not None:
            raise Stopped(self.number)

    @contextlib.contextmanager
    def grace(self) -> Iterator[None]:
        """Cells run, which ``check`` for themselves; for ``GRACE`` seconds nothing else ends them.

        Raises:
            Stopped: a signal has come.
        """
        self._has_grace = True
        try:
            self.check()
            yield
        finally:
            self._has_grace = False
        self.check()

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM stop, and not only the first: SIGALRM ends the grace."""
        numbers = (*NUMBERS, signal.SIGALRM)
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number is None and number in NUMBERS:
            self.number, self.deadline = number, time.monotonic() + GRACE
            if self._has_grace:
                signal.setitimer(signal.ITIMER_REAL, GRACE)
        if not self._has_grace or number == signal.SIGALRM:
            self.check()


def main(program: Callable[[Stop], int]) -> NoReturn:
    """Run a command line, and exit with its status; if it is told to stop, with a line on how."""
    stop = Stop()
    try:
        with stop.on_signals():
            status = program(stop)
    except Stopped as stopped:
        print("Stopped. The same command goes on.", file=sys.stderr)
        status = stopped.status
    sys.stdout.flush()
    sys.stderr.flush()
    if stop.number is None:
        sys.exit(status)
    os._exit(status)  # threads of cells that were ended where they were would outlive it
