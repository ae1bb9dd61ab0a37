"""What asks and trains: the same to the bit with people and oracle, at once and in pieces."""

import errno
import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from filelock import FileLock

from al_gym.annotate import HumanAnnotator, Stopped, human, trainer
from al_gym.annotate.model import SavedModel
from al_gym.annotate.project import Project
from al_gym.annotate.store import NotSaved
from al_gym.annotators import OracleAnnotator
from tests.al_gym.annotate.people import answering
from tests.al_gym.annotate.projects import (
    HEAD,
    WHOLE,
    draw_scans,
    draw_table,
    labels_of,
    make_project,
)  # fmt: skip
from tests.samples import One

TABLE = {name: value for name, value in HEAD.items() if name != "group_pattern"}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Answers are looked for more often, as programs give them."""
    for module in (human, trainer):
        monkeypatch.setattr(module, "POLL", 0.01)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return draw_scans(tmp_path_factory.mktemp("scans") / "root")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return draw_table(tmp_path_factory.mktemp("table") / "root")


def quiet(message):
    pass


def truth_of(project):
    """(N,) int64: classes by the files' names; for those of the table made up, as nobody asks."""
    return np.arange(108) % 3 if project.plan.n_known else labels_of(project)


def with_oracle(project):
    return trainer.train(project, OracleAnnotator(truth_of(project)), quiet)


def with_people(project, **settings):
    truth = truth_of(project)
    with answering(project.store.path, lambda row: int(truth[row])):
        return trainer.train(project, HumanAnnotator(project.store, timeout=30, **settings), quiet)


def asked(project):
    return [tuple(each) for each in project.store.questions()]


def opinions(project):
    """What every model thought, by number and sample."""
    return {
        (number, sample): found.tolist()
        for number, *_ in project.store.models()
        for sample, found in project.store.opinions(number).items()
    }


def assert_same(project, run, expected, expected_run):
    """Questions, labels, weights, scores and all that models thought are equal to the bit."""
    assert asked(project) == asked(expected)
    assert opinions(project) == opinions(expected) != {}
    pool, other = run.episode.pool, expected_run.episode.pool
    assert pool.labelled.tolist() == other.labelled.tolist()
    assert pool.labels.tolist() == other.labels.tolist()
    assert pool.skipped.tolist() == other.skipped.tolist()
    weights = One(run.classifiers, seed=None).weights
    for name, value in One(expected_run.classifiers, seed=None).weights.items():
        assert (weights[name] == value).all()
    np.testing.assert_array_equal(run.episode.curve, expected_run.episode.curve)
    rows = np.arange(len(run.dataset.labels))
    np.testing.assert_array_equal(run.predict(rows), expected_run.predict(rows))


# --- people and oracle ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "ahead"),
    [("head", True), ("head", False), ("whole", True), ("known", True), ("known", False)],
)
def test_people_and_the_oracle_give_one_run(tmp_path, scans, table, kind, ahead):
    changes = {"ahead": ahead, "settings": {"head": HEAD, "whole": WHOLE, "known": TABLE}[kind]}
    if kind == "known":
        changes["classes"] = ("0", "1", "2")
    root = table if kind == "known" else scans
    one, other = (make_project(tmp_path / name, root, **changes) for name in ("one", "other"))
    run, expected = with_people(one), with_oracle(other)
    assert_same(one, run, other, expected)
    pool = run.episode.pool
    n_known = one.plan.n_known
    assert n_known == (24 if kind == "known" else 0)
    assert {s: label for _, s, label in one.store.used()} == dict(
        zip(pool.labelled[n_known:].tolist(), pool.labels[n_known:].tolist(), strict=True)
    )
    assert kind != "known" or 0 < run.episode.test.macro_f1 <= 1
    with pytest.raises(AssertionError):  # another seed is another run
        third = make_project(tmp_path / "third", root, seed=1, **changes)
        assert_same(one, run, third, with_oracle(third))


def test_the_method_of_the_settings_chooses(tmp_path, scans):
    """The policy that is the rule, with people who cannot tell some of what they are asked."""
    one, other = (
        make_project(tmp_path / name, scans, method="drla-embed-v1") for name in ("one", "other")
    )
    truth = truth_of(one)
    truth[::5] = -1

    class Doubtful:
        def annotate(self, indices):
            return truth[indices]

    with answering(one.store.path, lambda row: int(truth[row])):
        run = trainer.train(one, HumanAnnotator(one.store, timeout=30), quiet)
    assert_same(one, run, other, trainer.train(other, Doubtful(), quiet))
    pool = run.episode.pool
    assert len(pool.labelled) + len(pool.skipped) == 18 and len(pool.skipped) > 0
    third = make_project(tmp_path / "third", scans, method="ms")
    trainer.train(third, Doubtful(), quiet)
    assert asked(third) != asked(one)


def test_a_method_that_needs_answers_is_refused(tmp_path, scans):
    project = make_project(tmp_path, scans, method="eq3-oracle")
    with pytest.raises(ValueError, match="eq3-oracle cannot choose from images whose labels"):
        with_oracle(project)


# --- what is asked --------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [True, False])
def test_the_budget_adds_up_and_the_test_set_stays_apart(tmp_path, scans, ahead):
    project = make_project(tmp_path, scans, ahead=ahead, twice=0.4)
    seen = []
    run = trainer.train(project, Spy(project, seen), quiet)
    questions, plan = project.store.questions(), project.plan
    assert len(questions) == 24 == len({each.sample for each in questions})
    purposes = {name: [q for q in questions if q.purpose == name] for name in PURPOSES}
    assert {name: len(each) for name, each in purposes.items()} == {
        "start": 4, "method": 14, "audit": 6,
    }  # fmt: skip
    assert sorted(q.sample for q in purposes["audit"]) == sorted(plan.audit)
    assert {q.sample for q in purposes["start"] + purposes["method"]} == set(seen)
    assert all(q.n_wanted == 1 + plan.twice[q.sample] for q in questions)
    assert 0 < sum(q.n_wanted == 2 for q in questions) < 24
    groups = plan.dataset.groups
    trained_on = set(groups[run.episode.pool.labelled])
    assert not trained_on & set(groups[plan.audit])
    assert [q.query for q in questions] == sorted(q.query for q in questions)
    for query in range(5):
        share = {q.sample for q in purposes["audit"] if q.query == query}
        assert share == set(plan.audited_with(query))
    assert [q.purpose for q in questions if q.query == 0] != ["start"] * 4 + [
        "audit"
    ]  # in no order
    assert [n for _, n, _, _ in project.store.models()] == [4, 8, 12, 16, 18]
    assert run.is_over


PURPOSES = ("start", "method", "audit")


class Spy:
    """The oracle, which notes what it is asked and that it was queued before."""

    def __init__(self, project, seen):
        self.project, self.seen, self.truth = project, seen, truth_of(project)

    def annotate(self, indices):
        queued = {each.sample for each in self.project.store.questions()}
        assert queued >= set(indices.tolist())
        self.seen += indices.tolist()
        return self.truth[indices]


@pytest.mark.parametrize("ahead", [True, False])
def test_each_query_has_the_least_margins_of_the_model_that_asks(tmp_path, scans, ahead):
    """Ahead, a query is chosen by the model before the last, otherwise by the last."""
    project = make_project(tmp_path, scans, ahead=ahead)
    with_oracle(project)
    of_query = {
        query: {each.sample for each in group if each.purpose != "audit"}
        for query, group in itertools.groupby(project.store.questions(), lambda each: each.query)
    }
    models = {
        each.query: each.model for each in project.store.questions() if each.purpose == "method"
    }
    assert models == ({1: 0, 2: 0, 3: 1, 4: 2} if ahead else {1: 0, 2: 1, 3: 2, 4: 3})
    # a plain episode over the same queries
    plan = project.plan
    env = trainer.ActiveLearningEnv(
        plan.dataset, project.task, project.classifier, annotator=OracleAnnotator(truth_of(project))
    )
    observations = [env.reset(seed=0)[0]]
    indices = env.run.episode.pool.indices
    assert set(env.run.episode.pool.labelled.tolist()) == of_query[0]
    for query in range(1, 5):
        action = np.isin(indices, list(of_query[query])).astype(float)
        observations.append(env.step(action)[0])
    for query in range(1, 5):
        left = [
            row for row, image in enumerate(indices.tolist())
            if all(image not in of_query[before] for before in range(query))
        ]  # fmt: skip
        best, second = -np.sort(-observations[models[query]][left], axis=1)[:, :2].T
        least = np.argsort(best - second)[: len(of_query[query])]
        assert set(indices[np.array(left)[least]].tolist()) == of_query[query]


def test_ahead_people_always_have_the_next_query(tmp_path, scans):
    """When a query is waited for, the one after it is queued."""
    project = make_project(tmp_path, scans)
    truth, n_queued = truth_of(project), []

    class Counts:
        def annotate(self, indices):
            left = {each.sample for each in project.store.questions() if each.purpose == "method"}
            n_queued.append(len(left))
            return truth[indices]

    trainer.train(project, Counts(), quiet)
    assert n_queued == [0, 8, 12, 14, 14]


# --- in pieces ------------------------------------------------------------------------------------


def stopped_after(folder, n):
    """Train until it waits and there have been n more answers."""
    project, stop = Project(folder), threading.Event()
    truth = truth_of(project)

    def look():
        if len(answered) == n:
            stop.set()

    annotator = HumanAnnotator(project.store, stop=stop, while_waiting=look)
    with (
        answering(project.store.path, lambda row: int(truth[row]), at_most=n) as answered,
        pytest.raises(Stopped),
    ):
        trainer.train(project, annotator, quiet)


@pytest.mark.parametrize(("kind", "ahead"), [("head", True), ("head", False), ("whole", True)])
def test_stopped_and_begun_anew_it_is_one_run(tmp_path, scans, kind, ahead):
    changes = {"ahead": ahead, "settings": HEAD if kind == "head" else WHOLE}
    expected = make_project(tmp_path / "expected", scans, **changes)
    expected_run = with_people(expected)
    folder = make_project(tmp_path / "pieces", scans, **changes).folder
    for n in (0, 1, 4, 9):
        stopped_after(folder, n)
    project = Project(folder)
    assert len(project.store.settled()) == 14 and len(project.store.models()) < 5
    assert_same(project, with_people(project), expected, expected_run)
    assert project.store.used() == expected.store.used()
    again = Project(folder)  # and once more, when all has been answered
    run = trainer.train(again, HumanAnnotator(again.store, timeout=0), quiet)
    assert_same(again, run, expected, expected_run)
    assert again.store.used() == expected.store.used()
    np.testing.assert_array_equal(
        SavedModel(folder).predict(project.plan.dataset.images),
        SavedModel(expected.folder).predict(project.plan.dataset.images),
    )


# --- corrections ----------------------------------------------------------------------------------


class Script:
    """Ann, who answers while the trainer waits, and bob, who answers the first and changes it.

    Args:
        project: what they work on.
        changes: number of answers -> the new label of the first sample.
    """

    def __init__(self, project, changes):
        self.store, self.changes = project.store, dict(changes)
        self.truth = truth_of(project)
        for person in ("ann", "bob"):
            self.store.join(person)

    def __call__(self):
        n = len(self.store.settled())
        if n in self.changes:
            first = self.store.undo("bob")
            assert first == self.store.questions()[0].sample
            self.store.answer(first, "bob", self.changes.pop(n), 1.0)
        person = "ann" if n else "bob"
        question = self.store.next_for(person)
        if question is not None:
            label = int(self.truth[question.sample])
            self.store.answer(question.sample, person, label, 1.0)


@pytest.fixture
def labels_of_models(monkeypatch):
    """What each model was trained with, by its number; the last time that it was."""
    found, record = {}, trainer._record

    def spy(project, run, number, *arguments):
        pool = run.episode.pool
        found[number] = dict(zip(pool.labelled.tolist(), pool.labels.tolist(), strict=True))
        return record(project, run, number, *arguments)

    monkeypatch.setattr(trainer, "_record", spy)
    return found


def first_of(folder, scans, **changes):
    """The first sample that is asked about in such a project, and its class."""
    project = make_project(folder, scans, audit=0.0, **changes)
    with pytest.raises(TimeoutError):
        trainer.train(project, HumanAnnotator(project.store, timeout=0), quiet)
    first = project.store.questions()[0].sample
    return first, int(truth_of(project)[first])


@pytest.mark.parametrize("settings", [HEAD, WHOLE])
def test_a_correction_is_trained_with_from_the_next_step_on(
    tmp_path, scans, labels_of_models, settings
):
    """One comes while query 1 is answered, and one while query 2 is, in which all is doubted."""
    changes = {"ahead": False, "settings": settings}
    first, old = first_of(tmp_path / "first", scans, **changes)
    new = (old + 1) % 3
    project = make_project(tmp_path / "p", scans, audit=0.0, **changes)
    script = Script(project, {6: new, 10: -1})
    run = trainer.train(project, HumanAnnotator(project.store, while_waiting=script), quiet)
    seen = [labels.get(first) for _, labels in sorted(labels_of_models.items())]
    assert seen == [old, old, new, None, None, None]
    assert run.episode.pool.skipped.tolist() == [first]
    assert [each for each in project.store.used() if each[1] == first] == [
        (0, first, old), (2, first, new), (3, first, -1),
    ]  # fmt: skip
    # done again, with nobody there
    before, used = dict(labels_of_models), project.store.used()
    labels_of_models.clear()
    again = Project(tmp_path / "p")
    other = trainer.train(again, HumanAnnotator(again.store, timeout=0), quiet)
    assert labels_of_models == before and again.store.used() == used
    assert_same(again, other, project, run)


def finished(folder, scans):
    """A project of which all 24 samples are answered, the first by bob."""
    project = make_project(folder, scans, audit=0.0)
    people = HumanAnnotator(project.store, while_waiting=Script(project, {}))
    return project, trainer.train(project, people, quiet)


def change_and_go_on(project, run, changes):
    """Persons give other labels to what they answered last, and wait for the model each time."""
    annotator, left = HumanAnnotator(project.store), list(changes)
    n_wanted = len(project.store.models())

    def work():
        nonlocal n_wanted
        if len(project.store.models()) < n_wanted:
            return
        if not left:
            annotator.stop.set()
            return
        n_wanted += 1
        person, label = left.pop(0)
        project.store.answer(project.store.undo(person), person, label, 1.0)

    annotator.while_waiting = work
    with pytest.raises(Stopped):
        trainer.go_on(project, run, annotator, quiet)


def test_after_the_budget_changed_answers_are_trained_with_in_one_go_or_in_several(
    tmp_path, scans, labels_of_models
):
    """Bob changes the first sample, ann the last, and bob the first again."""
    first, old = first_of(tmp_path / "first", scans)
    new, other = (old + 1) % 3, (old + 2) % 3
    one, run = finished(tmp_path / "one", scans)
    last = one.store.answers()[-1]
    changes = [("bob", new), ("ann", (last.label + 1) % 3), ("bob", -1), ("bob", other)]
    change_and_go_on(one, run, changes)
    seen = [labels_of_models[number] for number in range(5, 10)]
    assert [labels.get(first) for labels in seen] == [old, new, new, None, other]
    assert [labels[last.sample] - last.label for labels in seen[:2]] == [0, 0]
    assert {labels[last.sample] for labels in seen[2:]} == {(last.label + 1) % 3}
    several, _ = finished(tmp_path / "several", scans)
    for change in changes:  # each in a process of its own, which begins with the seed
        several = Project(several.folder)
        run = trainer.train(several, HumanAnnotator(several.store, timeout=0), quiet)
        change_and_go_on(several, run, [change])
    assert labels_of_models[9] == seen[-1]
    assert opinions(several) == opinions(one)
    images = one.plan.dataset.images
    np.testing.assert_array_equal(
        SavedModel(several.folder).predict(images), SavedModel(one.folder).predict(images)
    )


def test_begun_anew_after_the_budget_it_trains_nothing_new(tmp_path, scans):
    project, run = finished(tmp_path, scans)
    change_and_go_on(project, run, [("bob", -1)])
    models, used = project.store.models(), project.store.used()
    file = (project.folder / "model.safetensors").read_bytes()
    again = Project(project.folder)
    run = trainer.train(again, HumanAnnotator(again.store, timeout=0), quiet)
    change_and_go_on(again, run, [])
    assert again.store.models() == models and again.store.used() == used
    assert (project.folder / "model.safetensors").read_bytes() == file


# --- the process ----------------------------------------------------------------------------------


def started(folder, before=()):
    return subprocess.Popen(
        [*before, sys.executable, "-m", "al_gym.annotate.trainer", str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_trainer_is_a_process_that_ends_when_it_is_told_to(tmp_path, scans):
    project = make_project(tmp_path / "p", scans)
    truth = truth_of(project)
    process = started(project.folder)
    wait_for(lambda: project.store.questions() or process.poll() is not None)
    with answering(project.store.path, lambda row: int(truth[row]), at_most=12):
        wait_for(lambda: len(project.store.models()) == 2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=5)
    assert process.returncode == 0, errors
    assert project.store.fact(trainer.ERROR) == ""
    expected = make_project(tmp_path / "expected", scans)
    assert_same(project, with_people(project), expected, with_oracle(expected))


@pytest.mark.slow
def test_a_trainer_whose_parent_has_gone_before_it_came_up_ends(tmp_path, scans):
    """Its parent is another process by then, so that it must be told who it was."""
    project = make_project(tmp_path / "p", scans)
    nobody = "4194305"  # no process has such a number
    command = [sys.executable, "-m", "al_gym.annotate.trainer", str(project.folder), nobody]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    assert not project.store.models()


SHELL = ["sh", "-c", '"$@"; true', "sh"]
"""A parent that is not replaced by its child."""


@pytest.mark.slow
def test_the_trainer_ends_with_its_parent(tmp_path, scans):
    project = make_project(tmp_path, scans)
    parent = started(project.folder, SHELL)
    wait_for(lambda: project.store.questions() or parent.poll() is not None)
    assert parent.poll() is None
    os.kill(parent.pid, signal.SIGKILL)
    # the pipes have an end only when the trainer, too, has let go of them
    _, errors = parent.communicate(timeout=5)
    assert errors.count("Traceback") == 0, errors
    with FileLock(project.folder / trainer.LOCK, timeout=5):
        pass


@pytest.mark.slow
def test_a_second_trainer_waits_until_the_first_has_ended(tmp_path, scans):
    project = make_project(tmp_path, scans)
    first = started(project.folder)
    wait_for(lambda: project.store.questions())
    second = started(project.folder)
    assert f"another trainer works on {project.folder}" in second.stderr.readline()
    assert first.poll() is None
    project.store.set_fact(trainer.ERROR, "of before")
    first.terminate()
    first.communicate(timeout=5)
    assert first.returncode == 0
    wait_for(lambda: project.store.fact(trainer.ERROR) == "")  # the second has begun
    second.terminate()
    second.communicate(timeout=10)
    assert second.returncode == 0


@pytest.mark.slow
def test_a_trainer_that_waits_for_another_ends_when_it_is_told_to(tmp_path, scans):
    project = make_project(tmp_path, scans)
    with FileLock(project.folder / trainer.LOCK):
        process = started(project.folder)
        assert "another trainer works" in process.stderr.readline()
        process.terminate()
        process.communicate(timeout=10)
    assert process.returncode == 0 and not project.store.questions()


def test_a_trainer_that_cannot_write_may_be_started_again(tmp_path, scans, monkeypatch, capsys):
    monkeypatch.setattr(trainer.signal, "signal", lambda *_: None)  # pytest's stay
    project = make_project(tmp_path, scans)
    for error in (NotSaved("full"), OSError(errno.ENOSPC, "full")):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(trainer, "train", fail)
        assert trainer.main([str(project.folder)]) == trainer.AGAIN
        assert "cannot write" in capsys.readouterr().err
        assert project.store.fact(trainer.ERROR) == ""


def test_why_the_trainer_has_ended_is_there_for_the_page(tmp_path, scans, monkeypatch):
    monkeypatch.setattr(trainer.signal, "signal", lambda *_: None)  # pytest's stay
    project = make_project(tmp_path, scans, method="eq3-oracle")
    with pytest.raises(ValueError, match="eq3-oracle cannot choose"):
        trainer.main([str(project.folder)])
    assert project.store.fact(trainer.ERROR).startswith("ValueError: eq3-oracle cannot choose")


def test_there_must_be_a_project(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no project"):
        trainer.main([str(tmp_path)])


@pytest.mark.slow
def test_killed_again_and_again_it_is_one_run(tmp_path, scans):
    """Wherever it is: importing, training, waiting, writing."""
    project = make_project(tmp_path / "p", scans, settings=WHOLE)
    truth = truth_of(project)
    for n in (3, 9, 16):  # answers after which it is killed, and a little more
        process = started(project.folder)
        with answering(project.store.path, lambda row: int(truth[row])) as answered:
            wait_for(lambda n=n: len(project.store.settled()) >= n)
            time.sleep(0.03 * len(answered))
            process.kill()
        process.communicate(timeout=5)
    expected = make_project(tmp_path / "expected", scans, settings=WHOLE)
    again = Project(project.folder)
    assert_same(again, with_people(again), expected, with_oracle(expected))
    assert again.store._one("PRAGMA integrity_check") == ("ok",)
