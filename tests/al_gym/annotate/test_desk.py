"""What lies in front of a person, without a browser."""

import asyncio

import numpy as np
import pytest
import SimpleITK as sitk

from al_gym.annotate import desk as module
from al_gym.annotate.desk import Desk, Reviewing
from al_gym.annotate.originals import of_pixels, of_scan
from al_gym.annotate.store import Asked, NotSaved
from al_gym.annotate.trainer import ERROR, TRAINING
from tests.al_gym.annotate.projects import draw_scans, make_project


@pytest.fixture
def project(tmp_path):
    made = make_project(
        tmp_path / "project", draw_scans(tmp_path / "images"), budget=9, query_size=3
    )
    made.store.ask([Asked(row, "method", 2 if row == 2 else 1) for row in (4, 2, 0)], 1, 0)
    for name in ("Ann", "Bob", "Cat"):
        made.store.join(name)
    return made


def at(project, person, kind=Desk, **settings):
    found = kind(project, person, **settings)
    found.advance()
    return found


def answer(desk, label, **more):
    desk.act({"act": "answer", "row": desk.current.sample, "label": label, "seconds": 1, **more})


def test_one_sample_after_the_other_with_the_next_at_hand(project):
    desk = at(project, "Ann")
    assert (desk.current.sample, desk.upcoming.sample) == (4, 2)
    answer(desk, 1, unsure=True)
    name = project.plan.dataset.class_names[1]
    assert desk.message.text == f"Saved: {name}. A second person is asked."
    assert (desk.current.sample, desk.upcoming.sample) == (2, 0)
    answer(desk, -1, unsure=True)
    assert desk.message.text == "Saved: no class, as skipped."
    answer(desk, 0)
    assert desk.current is None
    assert project.store.settled() == {4: 1, 2: -1, 0: 0}
    assert [each.unsure for each in project.store.answers()] == [True, False, False]


def test_a_key_that_comes_too_late_is_not_taken_for_the_next(project):
    desk = at(project, "Ann")
    late = {"act": "answer", "row": 4, "label": 1, "seconds": 1}
    desk.act(late)
    desk.act(late)
    assert project.store.settled() == {4: 1}
    assert desk.message.text.startswith("Saved")


def test_a_picture_that_has_not_come_is_said(project):
    desk = at(project, "Ann")
    desk.act({"act": "unloaded"})
    assert desk.message.is_alarm and desk.message.text.startswith("A picture has not come")
    assert desk.current.sample == 4 and not project.store.settled()


def test_a_class_that_there_is_not_is_refused(project):
    desk = at(project, "Ann")
    answer(desk, 17)
    assert desk.message.is_alarm and "no such class" in desk.message.text
    assert not project.store.settled()


def test_undo_brings_the_last_back(project):
    desk = at(project, "Ann")
    desk.act({"act": "undo", "row": 4})
    assert desk.message.text == "There is nothing to undo."
    answer(desk, 1)
    answer(desk, 1)
    for back in (2, 4):
        desk.act({"act": "undo", "row": -1})
        assert desk.current.sample == back
    assert not project.store.settled()


def test_a_disk_that_fails_leaves_the_sample_there(project, monkeypatch):
    desk = at(project, "Ann")

    def fail(*_):
        raise NotSaved("disk full")

    monkeypatch.setattr(project.store, "answer", fail)
    answer(desk, 1)
    assert desk.message.is_alarm and "could NOT be saved" in desk.message.text
    assert desk.current.sample == 4


def test_the_opinion_is_told_after_the_answer_and_only_if_asked_for(project):
    thought = np.array([[0.25, 0.75]], np.float32)
    project.store.add_model(0, 3, 0.1, np.array([4]), thought)
    name = project.plan.dataset.class_names[1]
    desk = at(project, "Ann", shows_opinion=True)
    answer(desk, 0)
    assert desk.message.text.endswith(f"The classifier thought: {name}, 75%.")
    answer(desk, 0)  # of what no model has seen nothing is said
    assert "thought" not in desk.message.text
    project.store.undo("Ann")
    project.store.undo("Ann")
    silent = at(project, "Ann")
    assert silent.current.sample == 4
    answer(silent, 0)
    assert "thought" not in silent.message.text


def test_what_is_said_beside_a_sample(project):
    desk = at(project, "Ann")
    assert desk.note() == "Chosen by the newest classifier."  # which is about to be noted
    project.store.add_model(0, 3, 0.1, np.array([4]), np.array([[0.25, 0.75]], np.float32))
    assert desk.note() == "Chosen by the classifier that has learned from 3 labels."
    project.store.set_fact(TRAINING, "1")
    assert desk.progress()["text"].endswith(" A classifier is being trained.")
    project.store.set_fact(TRAINING, "")
    shown = at(project, "Ann", shows_files=True)
    assert str(project.plan.dataset.names[4]) in shown.note()
    answer(desk, 0, unsure=False)
    assert desk.progress() == {
        "wanted": 9, "done": 1,
        "text": "1 of 9 samples answered, 8 left. You: 1, typically 1.0 s each.",
    }  # fmt: skip


def test_why_there_is_no_sample(project):
    ann, bob = at(project, "Ann"), at(project, "Bob")
    for _ in range(2):
        answer(bob, 0)
    assert bob.current is None and "Others have" in bob.waiting()
    answer(ann, 0)
    assert "being trained" in bob.waiting()  # three of nine were asked
    project.store.set_fact(ERROR, "ValueError: too small")
    assert bob.waiting() == "Training has stopped: ValueError: too small Your answers are kept."
    project.store.set_fact(ERROR, "")
    project.store.ask([Asked(row, "method") for row in (6, 8, 10, 12, 14, 16)], 2, 0)
    ann.advance()
    while ann.current is not None:
        answer(ann, 0)
    assert ann.waiting().startswith("All 9 samples are answered.")


def test_a_third_settles_what_two_disagree_about(project):
    for person, label in (("Ann", 0), ("Bob", 1)):
        project.store.answer(2, person, label, 1.0)
    ann, cat = at(project, "Ann", Reviewing), at(project, "Cat", Reviewing)
    assert ann.current is None and "a third person settles that" in ann.waiting()
    names = project.plan.dataset.class_names
    assert cat.current.sample == 2 and cat.note() == f"Ann: {names[0]}; Bob: {names[1]}"
    answer(cat, -1)  # passed, and as nothing else is left it is there again
    assert cat.current.sample == 2 and cat.message.text.startswith("Passed")
    assert project.store.settled() == {2: 0}
    cat.act({"act": "undo", "row": 2})
    assert "cannot be undone" in cat.message.text
    answer(cat, 1, seconds=1e9)
    assert project.store.settled() == {2: 1} and cat.current is None
    assert project.store.answers()[-1].seconds == 86400  # a day at most
    assert cat.waiting() == "Nobody disagrees about anything (any more)."


def test_a_review_may_pass_over_a_sample(project):
    project.store.ask([Asked(row, "method", 2) for row in (7, 9)], 2, 0)
    for row in (2, 7, 9):
        for person, label in (("Ann", 0), ("Bob", 1)):
            project.store.answer(row, person, label, 1.0)
    cat = at(project, "Cat", Reviewing)
    seen = []
    for label in (-1, -1, 0, -1, 0):
        seen.append(cat.current.sample)
        answer(cat, label)
    assert seen == [2, 7, 9, 2, 7]
    assert cat.current.sample == 2 and cat.upcoming is None
    assert [*project.store.disagreements()] == [2]


def test_a_sample_is_looked_at_when_all_are_answered(project):
    found = module.Looking(project, "Ann", 2)
    found.advance()
    assert found.current is None and "when all are answered" in found.waiting()
    for row in (4, 2, 0):
        project.store.answer(row, "Bob", 1, 1.0)
    project.store.ask([Asked(row, "method") for row in (6, 8, 10, 12, 14, 16)], 2, 0)
    for row in (6, 8, 10, 12, 14, 16):
        project.store.answer(row, "Bob", 0, 1.0)
    found.advance()
    assert found.current.sample == 2
    assert found.note() == f"Bob: {project.plan.dataset.class_names[1]}."
    answer(found, 0)  # nothing can be answered there
    assert project.store.settled()[2] == 1
    other = module.Looking(project, "Ann", 1)  # that nobody was asked about
    other.advance()
    assert other.current is None


def test_who_goes_gives_back_what_lay_there(project):
    ann = at(project, "Ann")
    assert at(project, "Bob").current.sample == 2
    ann.leave()
    assert at(project, "Cat").current.sample == 4


def test_a_sample_is_described_or_said_to_be_unreadable(project, caplog):
    class Originals(list):
        def __getitem__(self, row):
            if row == 2:
                raise ValueError("p02.png is truncated")
            return of_pixels(np.zeros((1, 6, 4), np.uint8))

    desk = at(project, "Ann")
    found = asyncio.run(module.view(Originals(), desk.current))
    assert found == {
        "row": 4, "volume": False, "ct": False, "shape": [6, 4], "spacing": [1.0, 1.0, 1.0],
        "centre": [3, 2, 0], "window": [0.0, 255.0], "box": None, "zoom": 1.0,
        "oriented": False, "problem": None,
    }  # fmt: skip
    broken = asyncio.run(module.view(Originals(), desk.upcoming))
    assert broken["row"] == 2 and "cannot be read" in broken["problem"]
    assert "p02" not in broken["problem"]  # a file's name may be a patient's
    assert "p02.png is truncated" in caplog.text
    assert asyncio.run(module.view(Originals(), None)) is None


def test_a_small_lesion_is_seen_larger_than_a_large_one():
    """A fifth of what is in sight, if that is 50 mm at least; 140 mm at most; 8-fold at most."""
    scan = sitk.GetImageFromArray(np.zeros((4, 300, 300), np.int16))  # of 1 mm

    def zoom(extent):
        original = of_scan(scan, np.array([150, 150, 2]), np.array([extent, 4, 90]))
        return module.described(0, original)["zoom"]

    assert zoom(4) == zoom(10) == pytest.approx(300 / 50)
    assert zoom(20) == pytest.approx(300 / 100)
    assert zoom(60) == pytest.approx(300 / 140)


def test_who_is_unsure_alone_is_told_that_nobody_else_is_there(tmp_path):
    alone = make_project(tmp_path / "alone", draw_scans(tmp_path / "scans"))
    alone.store.ask([Asked(0, "method")], 0, None)
    alone.store.join("Ann")
    desk = at(alone, "Ann")
    answer(desk, 1, unsure=True)
    assert desk.message.text.endswith("A second person is asked, as soon as there is one.")
