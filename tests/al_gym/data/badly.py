"""Decoders that go wrong, by import path for processes that are to survive them."""

import ctypes
import os
import signal
import time

import numpy as np


def bomb():
    try:
        np.ones(10 * 2**30, np.uint8)
    except MemoryError as error:  # as readers do
        raise ValueError("it cannot be decoded") from error


def refuse():
    raise ValueError("it is no image")


def mistake():
    raise KeyError("typo")


MISHAPS = (
    (lambda: ctypes.string_at(0), "crashed (SIGSEGV)"),
    (os.abort, "crashed (SIGABRT)"),
    (lambda: os._exit(0), "crashed (status 0)"),
    (lambda: os.kill(os.getpid(), signal.SIGKILL), "crashed (SIGKILL)"),
    (lambda: time.sleep(100), "took longer than 1 seconds"),
    (bomb, "ran out of memory (limit 4 GiB)"),
    (refuse, "it is no image"),
    (mistake, "KeyError: 'typo'"),
)


def every_third(i):
    """``[i, i * i]``, but a mishap at 1, 4, 7 ..."""
    if i % 3 == 1:
        MISHAPS[i // 3][0]()
    return [i, i * i]


def sleep_after_touching(folder, i):
    (folder / str(i)).touch()
    time.sleep(100)


def image(how, i):
    """(1, 2, 2) of ``i``; number 3 goes wrong."""
    if i == 3:
        MISHAPS[how][0]()
    return np.full((1, 2, 2), i, np.uint8)
