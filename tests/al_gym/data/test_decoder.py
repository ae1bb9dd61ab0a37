"""Processes that decode: what goes wrong costs one file, and none outlives its parent."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from al_gym.data import cache, decoder
from al_gym.errors import DataError
from tests.al_gym.data import badly
from tests.processes import alive, children_of

ROOT = Path(__file__).parents[3]


def test_each_mishap_costs_one_file():
    n = len(badly.MISHAPS)
    names = [f"{i}.png" for i in range(3 * n)]

    def attempt(i):
        try:
            return call(i)
        except DataError as error:
            return str(error)

    with decoder.Decoders(badly.every_third, names, n_processes=2, seconds=1) as call:
        results = cache.in_threads(attempt, 3 * n, "", progress=False, stop=call.kill)
    expected = [
        f"the decoder {what} on {3 * i + 1}.png"
        if what.startswith(("crashed", "ran", "took"))
        else what
        for i, (_, what) in enumerate(badly.MISHAPS)
    ]
    assert results[1::3] == expected
    assert results[::3] == [[i, i * i] for i in range(0, 3 * n, 3)]
    assert results[2::3] == [[i, i * i] for i in range(2, 3 * n, 3)]


def wait_until(true):
    for _ in range(600):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


on_linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


@on_linux
def test_an_error_ends_all_processes(tmp_path):
    seen = {}

    def attempt(i):
        if i == 0:
            wait_until((tmp_path / "1").exists)  # another one sleeps
            seen.update(children_of(os.getpid()))
            raise ConnectionError("of the caller's own")
        return call(i)

    work = functools.partial(badly.sleep_after_touching, tmp_path)
    with (
        pytest.raises(ConnectionError),
        decoder.Decoders(work, ["a", "b"], n_processes=2) as call,
    ):
        cache.in_threads(attempt, 2, "", progress=False, stop=call.kill)
    assert len(seen) >= 3  # one that forks, two that decode
    wait_until(lambda: not alive(seen))


@on_linux
@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_parent_that_ends_takes_them_along(tmp_path, how):
    """A script without a main guard; SIGKILL leaves it no time to say so."""
    script = tmp_path / "script.py"
    script.write_text(
        "import functools, pathlib\n"
        "from al_gym.data import cache, decoder\n"
        "from tests.al_gym.data import badly\n"
        f"work = functools.partial(badly.sleep_after_touching, pathlib.Path({str(tmp_path)!r}))\n"
        "with decoder.Decoders(work, ['a'], n_processes=2, seconds=5) as call:\n"
        "    cache.in_threads(call, 1, '', progress=False, stop=call.kill)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    wait_until((tmp_path / "0").exists)
    seen = children_of(parent.pid)
    assert len(seen) == 3
    begun = time.monotonic()
    parent.send_signal(how)
    _, said = parent.communicate()
    assert parent.returncode != 0
    assert (b"KeyboardInterrupt" in said) == (how == signal.SIGINT)
    wait_until(lambda: not alive(seen))
    assert how == signal.SIGKILL or time.monotonic() - begun < 5  # at once, and not by its limit


def test_work_that_cannot_be_sent_says_so():
    with pytest.raises((AttributeError, TypeError)), decoder.Decoders(lambda i: i, ["a"]):
        pass


def test_work_that_is_not_found_there_ends_with_an_error(monkeypatch):
    monkeypatch.setattr(decoder, "PROGRAM", "import sys; sys.exit('no such module')")
    with pytest.raises(decoder.Ended), decoder.Decoders(abs, ["a"], n_processes=1) as call:
        call(0)
