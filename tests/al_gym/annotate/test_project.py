"""A folder with settings and answers: making, finding and refusing it, and what it plans."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from al_gym.annotate.project import ANSWERS, SETTINGS, Project, Settings, planned
from al_gym.data.dataset import UNKNOWN, ImageDataset
from tests.al_gym.annotate.projects import (
    CLASSES,
    HEAD,
    draw_scans,
    draw_table,
    labels_of,
    make_project,
    settings_for,
)  # fmt: skip


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return draw_scans(tmp_path_factory.mktemp("scans") / "root")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return draw_table(tmp_path_factory.mktemp("table") / "root")


# --- the folder -----------------------------------------------------------------------------------


def test_a_project_is_found_again(tmp_path, scans):
    made = make_project(tmp_path / "p", scans, seed=3, ahead=False)
    found = Project(tmp_path / "p")
    assert found.settings == made.settings == settings_for(scans, seed=3, ahead=False)
    assert sorted(path.name for path in (tmp_path / "p").glob("*.[js]*[ne]")) == [
        ANSWERS, SETTINGS,
    ]  # fmt: skip


def test_creating_it_again_is_opening_it(tmp_path, scans):
    one = make_project(tmp_path, scans)
    one.store.set_fact("a", "b")
    assert make_project(tmp_path, scans).store.fact("a") == "b"


def test_settings_that_json_writes_otherwise_are_the_same(tmp_path, scans):
    given = {**HEAD, "image_size": (12, 12), "exclude": ("*_mask.png",)}
    for root in (scans, Path(scans)):
        make_project(tmp_path, root, settings=given, classes=list(CLASSES), seed=np.int64(1))


def test_a_project_of_other_settings_is_not_touched(tmp_path, scans):
    make_project(tmp_path, scans)
    before = (tmp_path / SETTINGS).read_bytes()
    with pytest.raises(ValueError, match=r"of other settings \(budget, seed differ\)"):
        make_project(tmp_path, scans, budget=20, seed=1)
    with pytest.raises(ValueError, match=r"of other settings \(settings differ\)"):
        make_project(tmp_path, scans, settings={**HEAD, "image_size": 16})
    assert (tmp_path / SETTINGS).read_bytes() == before


def test_no_project(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=f"{folder.name} holds no project"):
            Project(folder)


@pytest.mark.parametrize(
    "content",
    [
        "", "no json", "[]", '""', "3", "null", "{}", '{"root": ""', '["root"]', b"\xff\xfe",
        '{"root": "x", "colour": 1}', '{"root": "x", "budget": "many"}',
        '{"root": "x", "classes": 3}', '{"root": "x", "settings": 3}',
        '{"root": "x", "settings": {"budget": 3}}', '{"root": "x", "dataset": "Retinopathy"}',
    ],
)  # fmt: skip
def test_damaged_settings_name_their_file(tmp_path, content):
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / SETTINGS).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{SETTINGS} cannot be used"):
        Project(tmp_path)


def test_damaged_answers_name_their_file(tmp_path, scans):
    make_project(tmp_path, scans).store.close()
    (tmp_path / ANSWERS).write_bytes(b"x" * 5000)
    with pytest.raises(ValueError, match=rf"{ANSWERS} cannot be used"):
        Project(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dataset", "Retinopathy"), ("query_size", 0), ("budget", 0), ("budget", 2.5),
        ("audit", 1.0), ("audit", -0.1), ("audit", "a"), ("twice", 1.1), ("seed", -1),
        ("ahead", 1), ("key", None),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must"):
        settings_for(Path("x"), **{name: value})


@pytest.mark.parametrize("name", ["initial_set", "initial_size", "query_size", "budget"])
def test_what_the_project_decides_is_no_setting_of_the_environment(name):
    with pytest.raises(ValueError, match=f"settings: {name} is decided by the project"):
        settings_for(Path("x"), settings={name: 3})


def test_classes_are_for_folders():
    with pytest.raises(ValueError, match="classes are for folders; MedMNIST has its own"):
        Settings("x", "MedMNIST", CLASSES)


# --- the plan -------------------------------------------------------------------------------------


def test_no_patient_is_in_the_test_set_and_in_training(tmp_path, scans):
    plan = make_project(tmp_path, scans).plan
    groups = plan.dataset.groups
    assert len(plan.audit) == len(set(plan.audit)) == 6
    assert not set(groups[plan.audit]) & set(groups[plan.dataset.train])
    n_patients = len(set(groups[plan.audit]))
    assert len(plan.dataset.train) == 72 - 3 * n_patients
    assert (plan.dataset.labels == UNKNOWN).all()
    assert (plan.n_known, plan.n_start, plan.n_queries) == (0, 4, 4)  # 18 = 4 + 4 + 4 + 4 + 2
    assert len(plan.dataset.test) == len(plan.dataset.validation) == 0


def test_the_test_set_is_asked_about_in_even_shares(tmp_path, scans):
    plan = make_project(tmp_path, scans).plan
    shares = [plan.audited_with(query).tolist() for query in range(5)]
    assert [row for share in shares for row in share] == plan.audit.tolist()
    assert sorted(map(len, shares)) == [1, 1, 1, 1, 2]


def test_the_plan_follows_the_seed(tmp_path, scans):
    plans = [make_project(tmp_path / str(i), scans, seed=i // 2).plan for i in range(4)]
    assert plans[0].audit.tolist() == plans[1].audit.tolist() != plans[2].audit.tolist()


def test_about_a_share_is_asked_twice(tmp_path, scans):
    shares = (0.0, 0.5, 1.0)
    plans = [make_project(tmp_path / str(s), scans, twice=s).plan for s in shares]
    assert [plan.twice.mean() for plan in plans] == pytest.approx(shares, abs=0.15)


NO_PATTERN = {name: value for name, value in HEAD.items() if name != "group_pattern"}


def test_known_labels_and_the_test_images_of_the_data_set_are_used(tmp_path, table):
    plan = make_project(tmp_path, table, classes=("0", "1", "2"), settings=NO_PATTERN).plan
    assert plan.n_known == 24 and plan.n_start == 0 and len(plan.audit) == 0
    assert plan.n_queries == 6  # 24 in fours
    assert len(plan.dataset.test) == 18
    project = Project(tmp_path)
    assert project.task.budget == 24 + 24 and project.task.initial_set == "known"


def test_an_answer_key_is_never_seen(tmp_path, table):
    plan = make_project(
        tmp_path, table, classes=("0", "1", "2"), settings=NO_PATTERN, key=True
    ).plan
    assert (plan.dataset.labels == UNKNOWN).all() and not len(plan.dataset.test)
    assert plan.n_known == 0 and len(plan.audit) == 6
    assert (plan.truth != UNKNOWN).sum() == 24 + 18 + 18  # of training, validation and test


def test_other_images_than_at_the_beginning_are_refused(tmp_path):
    root = draw_scans(tmp_path / "root")
    names = make_project(tmp_path / "p", root).plan.dataset.names
    assert len(Project(tmp_path / "p").plan.dataset.names) == 72
    moved = root / names[0]
    moved.rename(moved.with_name("other-0.png"))
    with pytest.raises(ValueError, match="holds other images, or classes, than when the project"):
        _ = Project(tmp_path / "p").plan
    moved.with_name("other-0.png").rename(moved)
    assert Project(tmp_path / "p").plan.dataset.names.tolist() == names.tolist()


def test_other_classes_than_at_the_beginning_are_refused(tmp_path, scans):
    _ = make_project(tmp_path, scans).plan
    content = json.loads((tmp_path / SETTINGS).read_text())
    (tmp_path / SETTINGS).write_text(json.dumps({**content, "classes": ["grey", "dark", "light"]}))
    with pytest.raises(ValueError, match="holds other images, or classes"):
        _ = Project(tmp_path).plan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": 73}, "budget=73 with audit=0.25 asks about 18 test images and 55 others"),
        ({"budget": 72, "audit": 0.0}, None),
        ({"budget": 73, "audit": 0.0}, "asks about 0 test images and 73 others"),
        ({"budget": 4, "audit": 0.0}, "in queries of 4"),
        ({"budget": 24, "audit": 0.9}, None),
    ],
)
def test_a_budget_that_does_not_fit_is_refused(tmp_path, scans, changes, message):
    project = make_project(tmp_path, scans, **{"query_size": 4, **changes})
    if message is None and changes["audit"] == 0:
        assert project.plan.n_queries == 17
    else:
        with pytest.raises(ValueError, match=message or "in queries of 4"):
            _ = project.plan


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_whatever_is_planned_adds_up(data):
    n = data.draw(st.integers(6, 60))
    groups = np.array(data.draw(st.lists(st.integers(0, n // 2), min_size=n, max_size=n)))
    known = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    truth = np.arange(n) % 2
    found = ImageDataset(
        np.zeros((n, 1, 4, 4), np.uint8), np.where(known, truth, UNKNOWN), ("a", "b"), groups,
        np.arange(n), np.array([], np.int64), "generated",
    )  # fmt: skip
    wanted = Settings(
        "x", query_size=data.draw(st.integers(1, 5)), budget=data.draw(st.integers(1, 40)),
        audit=data.draw(st.sampled_from([0.0, 0.2, 0.5])), key=data.draw(st.booleans()),
    )  # fmt: skip
    try:
        plan = planned(found, wanted)
    except ValueError as error:
        assert "Ask for fewer" in str(error)
        return
    train, labels = plan.dataset.train, plan.dataset.labels
    n_asked = len(plan.audit) + plan.n_start
    n_left = wanted.budget - n_asked
    assert len(plan.audit) == round(wanted.audit * wanted.budget)
    assert plan.n_queries == -(-n_left // wanted.query_size) >= 1
    assert wanted.budget - len(plan.audit) <= (labels[train] == UNKNOWN).sum()
    assert plan.n_known == (labels[train] != UNKNOWN).sum() == (0 if wanted.key else plan.n_known)
    assert (plan.n_start == 0) == (plan.n_known > 0)
    assert not set(groups[plan.audit]) & set(groups[train])
    assert (labels[plan.audit] == UNKNOWN).all()
    shares = [plan.audited_with(query) for query in range(plan.n_queries + 1)]
    assert np.concatenate(shares).tolist() == plan.audit.tolist()
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


# --- how its images are read ----------------------------------------------------------------------


def test_the_reader_of_other_files_knows_what_becomes_of_an_image(tmp_path, scans):
    given = {**HEAD, "test_fraction": 0.0, "split_seed": 3, "window": (0, 200)}
    project = make_project(tmp_path, scans, settings=given)
    assert project.reader_settings == {
        "dataset": "Folder",
        "keywords": {"image_size": 12, "group_pattern": r"(p\d+)/", "window": [0, 200]},
    }


def test_statistics_are_of_the_training_images(tmp_path, scans):
    project = make_project(tmp_path, scans)
    training = project.plan.dataset.images[project.plan.dataset.train].astype(np.float64)
    mean, deviation = project.statistics
    assert mean.dtype == np.float32 and mean.shape == deviation.shape == (1,)
    assert mean[0] == pytest.approx(training.mean(), rel=1e-5)
    assert deviation[0] == pytest.approx(training.std(), rel=1e-3)


def test_a_linear_layer_on_a_network_with_weights_is_the_rule(tmp_path, scans):
    classifier = make_project(tmp_path / "a", scans, settings={"image_size": 12}).classifier
    assert (classifier.network, classifier.weights) == ("efficientnet_lite0", "IMAGENET1K")
    assert (classifier.trainable, classifier.optimizer) == ("head", "newton")
    own = make_project(tmp_path / "b", scans, settings={**HEAD, "trainable": "all"}).classifier
    assert (own.network, own.trainable, own.optimizer) == ("small2d", "all", "sgd")
    assert labels_of(Project(tmp_path / "a")).tolist() == [i % 3 for i in range(72)]
