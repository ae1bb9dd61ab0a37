"""A cell's files: damaged curves, a second process, a full disk."""

import csv
import errno
import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from agents import checkpoint
from al_gym import durable
from al_gym.classifiers.networks import NetworkClassifier
from benchmarks import cell, run
from benchmarks.matrix import layout, locks
from benchmarks.matrix.recorder import Recorder
from tests.benchmarks.conftest import without_seconds

CELL = Path("Folder", "ms", "seed0")
SHORT = {"methods": ("ms",), "seeds": 1, "query_size": 3, "budget": 0.3}
"""One cell of nine steps."""


@pytest.fixture(scope="session")
def stopped_run(settings, tmp_path_factory):
    """The run folder of a cell that was stopped after seven steps. Copy before changing."""
    out = tmp_path_factory.mktemp("cells") / "stopped"
    original = Recorder.step

    def step(self, action):
        if self.n_steps == 7:
            raise KeyboardInterrupt
        return original(self, action)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Recorder, "step", step)
        run.main(settings(out, **SHORT))
    assert (out / CELL / layout.CHECKPOINT).exists()
    return out


@pytest.fixture(scope="session")
def whole_run(settings, tmp_path_factory):
    """The run folder of the same cell, which was not stopped. Copy before changing."""
    out = tmp_path_factory.mktemp("cells") / "whole"
    assert run.main(settings(out, **SHORT)) == 0
    return out


@pytest.fixture
def stopped(stopped_run, tmp_path):
    """A cell that was stopped after seven steps, its last checkpoint being of the sixth."""
    return shutil.copytree(stopped_run, tmp_path / "out") / CELL


@pytest.fixture
def whole(whole_run, tmp_path):
    """The curve of the same cell, which was not stopped."""
    return shutil.copytree(whole_run, tmp_path / "whole") / CELL / layout.CURVE


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text, "goes on from step 6"),
        (lambda text: text[:-9], "the last line of curve.csv was torn and is written again"),
        (lambda text: text[:200], "curve.csv was damaged and is repaired from the checkpoint"),
        (lambda text: text.replace("0.", "9."), "curve.csv was damaged and is repaired"),
        (lambda text: "", "curve.csv was damaged and is repaired"),
    ],
)
def test_a_curve_is_repaired_from_the_checkpoint(stopped, whole, damage, said):
    curve = stopped / layout.CURVE
    curve.write_text(damage(curve.read_text()))
    messages = []
    cell.run(stopped, messages.append)
    assert len(messages) == 1 and said in messages[0]
    assert without_seconds(curve) == without_seconds(whole)
    assert predicted(stopped) == predicted(whole.parent)


def predicted(folder):
    return (folder / layout.PREDICTIONS).read_bytes()


def test_without_a_checkpoint_it_begins_again(stopped, whole):
    (stopped / layout.CHECKPOINT).unlink()
    cell.run(stopped, pytest.fail)
    assert without_seconds(stopped / layout.CURVE) == without_seconds(whole)
    assert predicted(stopped) == predicted(whole.parent)


def test_torn_predictions_are_cut_back(stopped, whole):
    """The checkpoint is of the sixth step, so seven rows count."""
    path, before = stopped / layout.PREDICTIONS, predicted(stopped)
    n = len(before) // 8
    assert before == predicted(whole.parent)[: 8 * n]
    path.write_bytes(before[: 7 * n + 5])
    cell.run(stopped, lambda _: None)
    assert predicted(stopped) == predicted(whole.parent)


@pytest.mark.parametrize("left", [None, 200])
def test_a_cell_that_has_lost_its_predictions_goes_on_without(stopped, whole, left):
    """As one does that a program began which kept none."""
    path = stopped / layout.PREDICTIONS
    path.write_bytes(path.read_bytes()[:left])
    if left is None:
        path.unlink()
    messages = []
    cell.run(stopped, messages.append)
    assert "predictions.bin is damaged, and what was predicted is no longer kept" in messages[0]
    assert not path.exists()
    assert without_seconds(stopped / layout.CURVE) == without_seconds(whole)


def test_as_a_program_of_its_own(stopped, whole, as_program, capsys):
    assert as_program(cell, stopped) == 0 and "goes on from step 6" in capsys.readouterr().out
    assert without_seconds(stopped / layout.CURVE) == without_seconds(whole)
    (stopped / layout.RESULT).unlink()
    (stopped / layout.CONFIG).write_text('{"threads": 1, "dataset": "none"}')
    # what main returns is what sys.exit writes to stderr, with status 1
    assert "unknown data set 'none'" in cell.main([str(stopped)])


def truncated(content):
    return content[:1000]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [truncated, flipped, lambda _: b""])
def test_a_damaged_checkpoint_is_named_and_the_cell_begins_again(stopped, whole, damage):
    path = stopped / layout.CHECKPOINT
    path.write_bytes(damage(path.read_bytes()))
    messages = []
    assert cell.attempt(stopped, messages.append) is None
    assert len(messages) == 1 and "begins again, as its checkpoint cannot be used" in messages[0]
    assert str(path) in messages[0]
    assert without_seconds(stopped / layout.CURVE) == without_seconds(whole)
    assert predicted(stopped) == predicted(whole.parent)


def test_a_checkpoint_of_a_newer_version_is_kept_and_refused(stopped, monkeypatch):
    path = stopped / layout.CHECKPOINT
    with monkeypatch.context() as newer:
        newer.setattr(checkpoint, "VERSION", "3")
        checkpoint.write(path, {})
    before = path.read_bytes()
    assert "written by a newer version" in cell.attempt(stopped)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["", "{", "[]", "1"])
def test_a_damaged_config_is_refused_and_named(stopped, content):
    path = stopped / layout.CONFIG
    path.write_text(content)
    problem = cell.attempt(stopped)
    assert problem.startswith(f"CheckpointError: {path} cannot be read")
    assert problem.endswith("remove its folder, or run it")


def without_its_last_line(folder):
    curve = folder / layout.CURVE
    curve.write_text("".join(curve.read_text().splitlines(keepends=True)[:-1]))


def torn_result(folder):
    (folder / layout.RESULT).write_text('{"ste')


def empty_result(folder):
    (folder / layout.RESULT).write_text("")


def without_curve(folder):
    (folder / layout.CURVE).unlink()


@pytest.mark.parametrize(
    "damage", [without_its_last_line, torn_result, empty_result, without_curve]
)
def test_a_finished_cell_that_was_damaged_is_named_and_run_again(whole, damage):
    expected = without_seconds(whole), predicted(whole.parent)
    damage(whole.parent)
    messages = []
    cell.run(whole.parent, messages.append)
    name = whole.parent
    assert messages == [f"{name}: result.json or curve.csv is damaged; the cell is run again"]
    assert (without_seconds(whole), predicted(whole.parent)) == expected
    assert layout.is_finished(whole.parent)


def test_true_classes_that_were_torn_are_written_again(stopped, whole):
    (stopped / layout.TEST_IMAGES).write_bytes(b"PK")
    cell.run(stopped, lambda _: None)
    (first, other) = (np.load(each / layout.TEST_IMAGES) for each in (stopped, whole.parent))
    assert all((first[name] == other[name]).all() for name in ("labels", "groups"))


def test_predictions_are_on_disk_before_the_checkpoint_that_counts_them(
    settings, tmp_path, monkeypatch
):
    """A loss of power then finds the rows that a checkpoint says are there."""
    done = []
    fsync = os.fsync

    def synced(number):
        done.append(Path(f"/proc/self/fd/{number}").readlink().name)
        fsync(number)

    monkeypatch.setattr(os, "fsync", synced)
    run.main(settings(tmp_path / "out", **SHORT))
    for name in (layout.CHECKPOINT, layout.RESULT):
        place = done.index(name)
        assert done[place - 2 : place] == [layout.CURVE, layout.PREDICTIONS]


def test_one_process_at_a_time(stopped, whole):
    """The second one waits, and does nothing if the first has finished the cell meanwhile."""
    said = queue.Queue()
    second = threading.Thread(target=cell.run, args=(stopped, said.put), daemon=True)
    with locks.only_process(stopped, "this cell"):  # which a thread gets as little as a process
        second.start()
        me = f"process {os.getpid()} on {socket.gethostname()}"
        assert said.get(timeout=30) == f"{stopped}: {me} runs this cell; waiting for it"
        shutil.copy(whole, stopped / layout.CURVE)
        shutil.copy(whole.with_name(layout.RESULT), stopped)
        before = (stopped / layout.CURVE).read_text()
    second.join(30)
    assert not second.is_alive() and said.empty()
    assert (stopped / layout.CURVE).read_text() == before


def test_what_a_process_left_that_was_killed_at_the_end_of_a_cell_goes_with_the_next_run(
    whole, settings
):
    """Its result was there already, so nobody runs the cell again."""
    cell_folder = whole.parent
    expected = sorted(path.name for path in cell_folder.iterdir())
    for name in (layout.CHECKPOINT, layout.HOLDER, layout.ERROR):
        (cell_folder / name).touch()
    config = settings(cell_folder.parents[2], **SHORT)
    assert run.main(config) == 0
    assert sorted(path.name for path in cell_folder.iterdir()) == expected


def test_a_finished_cell_is_left_alone(whole):
    before = whole.read_bytes()
    cell.run(whole.parent, pytest.fail)
    assert whole.read_bytes() == before


def test_changed_images_are_noticed(stopped):
    config = json.loads((stopped / layout.CONFIG).read_text())
    (stopped / layout.CONFIG).write_text(json.dumps(config | {"fingerprint": "of other images"}))
    problem = cell.attempt(stopped)
    assert problem.startswith("RuntimeError: data or settings are not what config.json says")
    assert "fingerprint" in problem
    assert (stopped / layout.ERROR).read_text().startswith(problem)


def test_leftovers_of_a_killed_write_are_removed(stopped):
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    name = f".checkpoint.safetensors.{durable._machine()}.{dead.pid}.abc.tmp"
    (stopped / name).mkdir()
    (stopped / name / "checkpoint.safetensors").write_bytes(b"half")
    (stopped / layout.ERROR).write_text("of an earlier attempt")
    cell.run(stopped, lambda _: None)
    assert not list(stopped.glob(".*")) and not (stopped / layout.ERROR).exists()


def test_acquisition_seconds_do_not_count_checkpoints(settings, tmp_path, monkeypatch):
    original = cell.checkpoint.write

    def slow(path, tree):
        time.sleep(0.2)
        return original(path, tree)

    monkeypatch.setattr(cell.checkpoint, "write", slow)
    config = settings(tmp_path, methods=("ms",), seeds=1)
    run.main(config)
    with (tmp_path / "Folder" / "ms" / "seed0" / layout.CURVE).open() as file:
        seconds = [float(row["acquisition_seconds"]) for row in csv.DictReader(file)]
    assert len(seconds) > 4 and max(seconds) < 0.2


def test_a_full_disk_leaves_the_last_checkpoint(stopped, whole, monkeypatch):
    before = (stopped / layout.CHECKPOINT).read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in cell.attempt(stopped)
    assert (stopped / layout.CHECKPOINT).read_bytes() == before
    monkeypatch.undo()
    cell.run(stopped, lambda _: None)
    assert without_seconds(stopped / layout.CURVE) == without_seconds(whole)


def test_difference_in_words(whole):
    path = whole.with_name(layout.CONFIG)
    config = json.loads(path.read_text())
    other = json.loads(path.read_text())
    other["environment"]["budget"] = 1.0
    other["classifier"]["learning_rate"] = 7.0
    assert layout.difference(config, config, layout.SHARED) == ""
    words = layout.difference(config, other, layout.SHARED)
    assert words == (
        "environment.budget 0.3 there, 1.0 here; classifier.learning_rate 0.01 there, 7.0 here"
    )


def test_the_copied_folder_of_a_cell_goes_on_elsewhere(stopped, whole, tmp_path):
    moved = tmp_path / "moved" / "a" / "seed0"
    shutil.copytree(stopped, moved)
    cell.run(moved, lambda _: None)
    assert without_seconds(moved / layout.CURVE) == without_seconds(whole)


@pytest.mark.parametrize("method", ["ms", "drla"])
def test_a_cell_that_diverges_keeps_what_it_was(settings, tmp_path, monkeypatch, method):
    """Step 4 trains with a rate that makes the classifier's weights infinite."""
    config = settings(tmp_path / "out", methods=(method,), seeds=1)
    rates = {}

    def absurd(self, lesson, *arguments):
        rates[id(self)] = rates.get(id(self), 0) + 1
        if rates[id(self)] == 1 + 4:  # the first is pretraining
            with torch.no_grad():
                next(self.network.parameters()).fill_(torch.inf)
        return fit(self, lesson, *arguments)

    fit = NetworkClassifier.fit
    monkeypatch.setattr(NetworkClassifier, "fit", absurd)
    assert run.main(config) == 1
    monkeypatch.undo()
    folder = config.out / "Folder" / method / "seed0"
    problem = (folder / layout.ERROR).read_text().splitlines()[0]
    assert problem.startswith("FloatingPointError: in step 4: the classifier's predictions of all")
    assert problem.endswith("; the state then is kept in failure.safetensors")
    kept = checkpoint.read(folder / layout.FAILURE)
    assert kept["env"]["episode"]["step"] == 3 and len(kept["recorder"]["lines"]) == 3 + 2
    assert not all(torch.isfinite(each).all() for each in kept["classifier"]["network"].values())
    assert checkpoint.read(folder / layout.CHECKPOINT)["env"]["episode"]["step"] == 2
    cell.run(folder, lambda _: None)  # which goes on from there
    assert (folder / layout.RESULT).exists() and not (folder / layout.FAILURE).exists()


def test_an_agent_that_diverges_is_kept(settings, tmp_path):
    config = settings(
        tmp_path, methods=("drla",), seeds=1, checkpoint_every=1, agent={"learning_rate": 1e30}
    )
    assert run.main(config) == 1
    folder = tmp_path / "Folder" / "drla" / "seed0"
    problem = (folder / layout.ERROR).read_text().splitlines()[0]
    assert "NaN or infinite" in problem and "lower learning_rate" in problem
    kept = checkpoint.read(folder / layout.FAILURE)["player"]
    assert max(each.abs().max() for each in kept["critic"].values()) > 1e20
