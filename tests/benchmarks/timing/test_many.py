"""The benchmark of many cells, with few of them."""

import json

import pytest

from benchmarks.reporting import results
from benchmarks.timing import many


def test_the_plan_writes_every_cell(tmp_path):
    many.write_images(tmp_path / "images")
    many.plan(tmp_path, 2)
    configs = list((tmp_path / "plan").glob("*/*/seed*/config.json"))
    assert len(configs) == 2 * len(many.PLANNED)
    assert {json.loads(path.read_text())["seed"] for path in configs} == {0, 1}


def test_the_cells_reported_on_are_finished_and_have_predictions(tmp_path):
    many.write_experiment(tmp_path / "runs" / "data0", 2)
    (found,) = results.load([tmp_path / "runs"])
    assert len(found.curves) == 20 * 2 * 31
    assert not found.unfinished and found.without_predictions == []


@pytest.mark.slow
def test_the_table_has_a_row_for_each(tmp_path):
    table = many.main(many.ManyConfig(cells=200))
    assert "| plan of 200 cells | " in table and "| report on 200 cells | " in table
