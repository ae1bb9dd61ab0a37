"""The curve names the files, and a curve that an older program began stays as it began."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from agents.ddpg import health
from al_gym import ActiveLearningEnv, EnvConfig
from benchmarks.matrix import layout
from benchmarks.matrix.recorder import Recorder
from tests.samples import FAST, make_dataset


@pytest.fixture
def named():
    """An environment whose images have the names that are hard to write into a table."""
    images = make_dataset()
    names = np.array([f'a "b", {row} é\n.png' for row in range(len(images.labels))])
    return ActiveLearningEnv(
        replace(images, names=names), EnvConfig(initial_fraction=0.1, query_size=4), FAST
    )


@pytest.fixture
def recorder(named, tmp_path):
    (tmp_path / "ms" / "seed0").mkdir(parents=True)
    return Recorder(named, {"retrain_at": []}, tmp_path / "ms" / "seed0", one_point=False)


def rows(recorder):
    text = (recorder._folder / layout.CURVE).read_text()
    return list(csv.DictReader(io.StringIO(text)))


def test_names_are_those_of_the_rows(recorder, named):
    recorder.reset(seed=0)
    recorder.step(np.linspace(0, 1, named.action_space.shape[0]))
    start, step = rows(recorder)
    assert json.loads(start["selected_names"]) == [] and start["selected"] == ""
    selected = [int(row) for row in step["selected"].split()]
    assert selected == named.run.episode.pool.indices[named.run.episode.query.rows].tolist()
    assert json.loads(step["selected_names"]) == named.run.dataset.names[selected].tolist()
    assert all(step[name] == "" for name in layout.HEALTH)  # nobody said how it does


def test_every_number_that_an_agent_knows_of_its_health_has_a_column():
    assert layout.HEALTH == health.NAMES


def test_how_the_agent_does_is_asked_at_every_step(recorder, named):
    known = {}
    recorder.health = known.copy
    recorder.reset(seed=0)
    action = np.linspace(0, 1, named.action_space.shape[0])
    known.update(saturated=0.25)
    recorder.step(action)
    known.update(saturated=1 / 3, q=8464.125, q_limit=100.0)
    recorder.step(action)
    start, first, second = rows(recorder)
    assert [start[name] for name in layout.HEALTH] == [""] * 7
    assert (first["saturated"], first["q"]) == ("0.25", "")
    assert (second["saturated"], second["q"], second["q_limit"]) == ("0.333333", "8464.12", "100")
    assert first["tied"] == second["tied"] == ""


def test_a_curve_goes_on_with_the_columns_it_began_with(recorder, named):
    recorder.reset(seed=0)
    older = layout.COLUMNS[:12]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([older, [rows(recorder)[0][name] for name in older]])
    lines = text.getvalue().splitlines(keepends=True)
    recorder.load_state_dict({"lines": lines, "retrain_at": []})
    recorder.step(np.linspace(0, 1, named.action_space.shape[0]))
    with (recorder._folder / layout.CURVE).open() as file:
        header, *table = csv.reader(file)
    assert header == list(older) and [len(line) for line in table] == [12, 12]
