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
    assert board.export() == "Written to the project's folder: labels.csv, final.csv."

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
    row = '<th scope="row">2</th><td class="n">Ann: dark, Ben: light (unsure)</td>'
    assert row in board.page and "Agreement of two people" in board.page
    store.review(5, "Cat", 2, 1.0)
    board.refresh()
    assert "To be settled" not in board.page
