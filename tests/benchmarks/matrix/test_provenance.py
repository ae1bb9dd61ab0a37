"""What a config.json says of the task, and those of older programs."""

import json
from dataclasses import asdict

from al_gym import ActiveLearningEnv, ClassifierConfig, EnvConfig
from benchmarks.matrix.layout import SHARED, difference
from benchmarks.matrix.provenance import NOT_DECISIVE, completed, describe_task
from tests.samples import FAST, make_dataset


def test_a_setting_that_an_older_program_did_not_have_counts_as_its_default():
    classifier = {k: v for k, v in asdict(ClassifierConfig()).items() if k not in NOT_DECISIVE}
    now = {"environment": asdict(EnvConfig()), "classifier": classifier, "seed": 3}
    now = json.loads(json.dumps(now))  # as config.json has it
    older = {
        "environment": {k: v for k, v in now["environment"].items() if k != "eval_every"},
        "classifier": {"learning_rate": 0.5},
        "seed": 3,
    }
    assert completed(older)["environment"] == now["environment"]
    found = difference(completed(older), now, SHARED)
    assert found == "classifier.learning_rate 0.5 there, 0.0001 here"


def test_a_config_without_settings_stays_as_it_is():
    assert completed({"dataset": "chestCT"}) == {"dataset": "chestCT"}


def test_what_a_list_of_initial_images_holds_counts(tmp_path):
    path = tmp_path / "start.csv"
    tasks = []
    for names in (("1", "2"), ("1", "3")):
        path.write_text("\n".join(["file", *names]))
        env = ActiveLearningEnv(make_dataset(), EnvConfig(initial_set=path), FAST)
        tasks.append(describe_task(env))
    assert difference(*tasks, SHARED).startswith("initial_file")
    plain = ActiveLearningEnv(make_dataset(), EnvConfig(), FAST)
    assert "initial_file" not in describe_task(plain)
