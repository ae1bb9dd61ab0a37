"""Settings of the matrix: keywords of gymnasium.make, budgets, data that cannot be compared on."""

import csv
import dataclasses
import json
import shutil

import pytest
import tyro

from al_gym.config import parsed_setting
from benchmarks import run
from tests import images_as_folders
from tests.benchmarks.conftest import without_seconds


def lines(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_budget_is_a_share_or_a_number_of_images(settings, tmp_path):
    """0.39 of 105 images are 41: the last of the report's fractions is what is reached."""
    fast = {"methods": ("ms",), "seeds": 1, "retrain_eval": True, "set": ("pretrain_passes=3",)}
    config = settings(tmp_path, budget=0.39, **fast)
    assert run.main(config) == 0
    *_, last = lines(tmp_path / "Folder" / "ms" / "seed0" / "curve.csv")
    assert last["n_labelled"] == "41" and last["retrained_macro_f1"] != ""
    with pytest.raises(ValueError, match=r"environment.budget 0.39 there, 41 here"):
        run.main(settings(tmp_path, budget=41, **fast))
    number = settings(tmp_path / "n", budget=41, **fast)
    assert run.main(number) == 0
    path = number.out / "Folder" / "ms" / "seed0" / "curve.csv"
    assert without_seconds(path) == without_seconds(tmp_path / path.relative_to(number.out))
    assert tyro.cli(run.RunConfig, args=["--out", "x", "--budget", "300"]).budget == 300
    assert type(tyro.cli(run.RunConfig, args=["--out", "x", "--budget", "1.0"]).budget) is float


def test_all_that_was_trained_for_less_is_not_gone_on_with(settings, tmp_path):
    """As by a program that gave ALL the passes of a start, and an episode many more steps."""
    config = settings(tmp_path, methods=("ms", "all"), seeds=1)
    assert run.main(config) == 0
    path = tmp_path / "Folder" / "all" / "seed0" / "config.json"
    record = json.loads(path.read_text())
    assert record["agent"]["retraining"].endswith("gradient steps, as an episode takes")
    path.write_text(json.dumps(record | {"agent": {}}))
    with pytest.raises(ValueError, match=r"all.*other settings \(agent.retraining None there"):
        run.main(config)


def test_any_keyword_of_make_can_be_set(settings, tmp_path):
    config = settings(
        tmp_path, methods=("ms",), seeds=1,
        set=("network=resnet18", "trainable=head", "initial_fraction=0.1", "learning_rate=0.01"),
    )  # fmt: skip
    assert run.main(config) == 0
    record = json.loads(next(tmp_path.rglob("config.json")).read_text())
    assert record["environment"]["initial_fraction"] == 0.1
    assert record["classifier"]["network"] == "resnet18"
    assert record["classifier"]["learning_rate"] == 0.01
    (again,) = run.plan(config)
    assert again.settings == record["settings"]


def test_settings_of_start_training_and_reader_can_be_set(tmp_path):
    root = tmp_path / "images"
    images_as_folders.write_splits(images_as_folders.drawn(72), root)
    shutil.copy(root / "test" / "1" / "00066.png", root / "train" / "0" / "a_mask.png")
    given = {
        "initial_size": 8, "initial_set": "random", "class_weights": "balanced",
        "optimizer": "adam", "augmentation": ["flip"], "early_stopping": 3,
    }  # fmt: skip
    texts = tuple(f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in given.items())
    reader = ("image_size=[8, 16]", "exclude=*_mask.png")
    config = run.RunConfig(
        tmp_path / "out", dataset="Folder", root=root, methods=("random",), seeds=1, budget=20,
        query_size=4, set=(*texts, *reader),
    )  # fmt: skip
    assert run.main(config) == 0
    path = next(config.out.rglob("config.json"))
    record = json.loads(path.read_text())
    settings = record["environment"] | record["classifier"] | record["settings"]
    assert {key: settings[key] for key in given} == given
    assert settings["image_size"] == [8, 16] and settings["exclude"] == "*_mask.png"
    (note,) = record["notes"]
    assert "exclude" in note and "train/0/a_mask.png" in note
    assert [row["n_labelled"] for row in lines(path.with_name("curve.csv"))] == [
        "8", "12", "16", "20",
    ]  # fmt: skip
    for left_out in given:
        fewer = tuple(text for text in texts if not text.startswith(left_out))
        with pytest.raises(ValueError, match=f"results of other settings .*{left_out}"):
            run.main(dataclasses.replace(config, set=(*fewer, *reader)))


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("no test", "no test images, so methods cannot be compared"),
        ("no labels", "labels of 12 of 48 training images are not known, that of train/2/"),
    ],
)
def test_what_methods_cannot_be_compared_on_is_refused(tmp_path, root, message):
    images_as_folders.write_splits(images_as_folders.drawn(72), tmp_path / "images")
    if root == "no test":
        shutil.rmtree(tmp_path / "images" / "test")
    else:
        (tmp_path / "images" / "unlabelled").mkdir()
        for path in sorted((tmp_path / "images" / "train" / "2").iterdir())[4:]:
            path.rename(tmp_path / "images" / "unlabelled" / path.name)
        message = message.replace("train/2/", "unlabelled/")
    config = run.RunConfig(
        tmp_path / "out", dataset="Folder", root=tmp_path / "images", methods=("ms",),
        set=("test_fraction=0",),
    )  # fmt: skip
    with pytest.raises(ValueError, match=f"{message}.*python -m benchmarks.query"):
        run.main(config)
    assert not config.out.exists()


def test_a_reader_of_ones_own_can_be_set(tmp_path):
    config = run.RunConfig(
        tmp_path, dataset="Folder", methods=("random",), seeds=1,
        set=("reader=tests.al_gym.test_import_paths:read", "n_images=60", "query_size=4"),
    )  # fmt: skip
    assert run.main(config) == 0
    assert lines(next(tmp_path.rglob("curve.csv")))[-1]["n_labelled"] == "60"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("a=1", 1), ("a=0.5", 0.5), ("a=true", True), ("a=null", None), ("a=[1, 2]", [1, 2]),
        ("a=resnet18", "resnet18"), (r"a=p(\d+)=x", r"p(\d+)=x"), ("a=", ""), ('a="1"', "1"),
    ],
)  # fmt: skip
def test_values_that_are_set_are_json_where_they_can_be(setting, value):
    assert parsed_setting(setting, "--set") == ("a", value)


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ("budget", ValueError, "--set takes key=value, not 'budget'"),
        ("=3", ValueError, "--set takes key=value"),
        (
            "learning_rat=0.1",
            TypeError,
            "unexpected keyword.*'learning_rat'.*'learning_rate'",
        ),
        ("learning_rate=fast", ValueError, "learning_rate must be a number, not 'fast'"),
        ("network=resnt18", ValueError, "unknown network 'resnt18'.*'resnet18'"),
        ("query_size=0", ValueError, "query_size"),
        ("query_size=x", ValueError, "query_size must be an integer, not 'x'"),
        ("query_size=2.5", ValueError, "query_size must be an integer, not 2.5"),
    ],
)
def test_what_is_set_is_checked_as_make_checks_it(settings, tmp_path, setting, error, message):
    with pytest.raises(error, match=message):
        run.main(settings(tmp_path / "out", methods=("ms",), set=(setting,), query_size=None))
    assert not (tmp_path / "out").exists()
