"""The numbers of a project as HTML."""

import numpy as np
import pytest

from al_gym.annotate import export
from al_gym.annotate.board import Board
from al_gym.annotate.store import Asked
from tests.al_gym.annotate.projects import draw_scans, labels_of, make_project


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "project", draw_scans(tmp_path / "images"))


def test_a_model_without_labels_has_a_point(project):
    """All that it could have learned from was skipped."""
    plan, store = project.plan, project.store
    store.ask([Asked(row, "audit") for row in plan.audit], 0, None)
    for row in plan.audit:
        store.answer(int(row), "Ann", int(labels_of(project)[row]), 1.0)
    store.add_model(0, 0, 0.1, plan.audit, np.full((len(plan.audit), 3), 1 / 3, np.float32))
    board = Board(project)
    board.refresh()
    assert "With 0 labels macro F1 is" in board.page and board.curve in board.page
    assert 'cx="34.0"' in board.curve  # at the left


@pytest.mark.parametrize("error", [OSError(28, "no space", "<b>.png"), ValueError("<b>.png")])
def test_results_that_cannot_be_written_are_said(project, monkeypatch, caplog, error):
    board = Board(project)
    where = f"Written to the folder {project.folder.resolve()} of the machine"
    assert board.export().startswith(where) and ": labels.csv, final.csv." in board.export()

    def fail(_):
        raise error

    monkeypatch.setattr(export, "write", fail)
    said = board.export()
    assert "could NOT be written" in said and "<b>" not in said
    assert "<b>.png" in caplog.text


def test_what_is_disputed_is_listed_with_the_answers(project):
    store = project.store
    store.ask([Asked(row, "method", 2) for row in (7, 5)], 1, 0)
    for row in (7, 5):
        store.answer(row, "Ann", 0, 1.0)
        store.answer(row, "Ben", 2 if row == 5 else 0, 1.0, unsure=True)
    board = Board(project)
    board.refresh()
    row = '<th scope="row">2</th><td>Ann: dark, Ben: light (unsure)</td>'
    assert row in board.page and "Agreement of two people" in board.page
    store.review(5, "Cat", 2, 1.0)
    board.refresh()
    assert "To be settled" not in board.page


def test_between_models_the_curve_stays_so_that_nobody_can_tell_the_test_images(project):
    plan, store, truth = project.plan, project.store, labels_of(project)
    store.ask([Asked(row, "audit") for row in plan.audit], 0, None)
    told = np.full((len(plan.audit), 3), 1 / 3, np.float32)
    for row in plan.audit[:5]:
        store.answer(int(row), "Ann", int(truth[row]), 1.0)
    store.add_model(0, 4, 0.1, plan.audit, told)
    board = Board(project)
    board.refresh()
    before = board.curve
    assert board.outlook == ""
    assert "on 5 test images" in before
    store.answer(int(plan.audit[5]), "Ann", int(truth[plan.audit[5]]), 1.0)
    board.refresh()
    assert board.curve == before and "6</td>" in board.page  # her answers are counted
    store.add_model(1, 8, 0.1, plan.audit, told)
    board.refresh()
    assert "on 6 test images" in board.curve


def test_what_differs_from_the_key_is_told_at_the_end(tmp_path):
    project = make_project(
        tmp_path / "project", draw_scans(tmp_path / "images"), key=True, budget=5, query_size=2
    )
    plan, store = project.plan, project.store
    truth = plan.truth
    board = Board(project)
    # the scans of this project say nothing of their classes: the key is given here
    truth[:5] = 0
    store.ask([Asked(row, "method") for row in (3, 1, 0, 2, 4)], 0, None)
    board.refresh()
    for row in (0, 1, 2, 3):
        store.answer(row, "Ann", 2 if row == 1 else 0, 1.0)
    board.refresh()
    assert "answer key" not in board.page  # which would say of a single answer whether it is right
    assert board.outlook.startswith("A learning curve comes here")
    store.add_model(0, 4, 0.1, plan.audit, np.full((len(plan.audit), 3), 1 / 3, np.float32))
    board.refresh()
    assert '<th scope="row">all classes</th><td class="n">4</td><td class="n">3</td>' in board.page
    assert "told when all samples are answered" in board.page
    assert "Labels that differ" not in board.page
    store.answer(4, "Ann", -1, 1.0)  # a skip is no wrong label
    board.refresh()
    row = '<th scope="row">2</th><td>light</td><td>dark</td><td><a href="/look/1">look</a></td>'
    assert row in board.page
    assert board.page.partition("Labels that differ")[2].count("<tr>") == 2
