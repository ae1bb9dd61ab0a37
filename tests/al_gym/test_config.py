"""Settings of the task are checked, or converted, where they are made; the errors name them."""

import json
from dataclasses import asdict, fields

import numpy as np
import pytest

from al_gym import EnvConfig
from al_gym.rewards import misclassification
from tests.al_gym.episodes import make

WRONG = {
    "initial_fraction": ("0.1", True, None, 0, 1.0, float("nan"), np.array([0.1])),
    "query_size": ("5", 5.0, True, None, 0, np.float64(5), [5]),
    "budget": ("0.5", "300", True, None, 0, 0.0, 1.5, -3, float("nan")),
    "reward": (None, 3, True, ["f1_gain"]),
    "reward_timing": ("never", None, True),
    "labelled_rows": ("keep", None, 1),
    "validation_fraction": ("0.1", True, 1.0, -0.1),
    "label_noise": ("0.1", True, None, 1.1),
    "eval_every": ("1", 1.0, True, None, 0),
    "resample_initial": ("yes", 1, None, "false"),
    "initial_size": ("5", 5.0, True, -1),
    "initial_set": ("typicl", None, 5, True, "labelled.txt"),
    "skip_cost": ("1", True, None, -1, float("inf"), float("nan")),
}


def test_every_setting_is_checked():
    assert set(WRONG) == {field.name for field in fields(EnvConfig)}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_value_of_the_wrong_type_or_size_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^{name} must "):
        EnvConfig(**{name: value})


def test_numbers_of_numpy_become_pythons():
    config = EnvConfig(
        query_size=np.int64(4), budget=np.int32(30), initial_size=np.uint8(9),
        skip_cost=np.float32(0.5), label_noise=np.float64(0.25), eval_every=np.int16(2),
    )  # fmt: skip
    plain = EnvConfig(
        query_size=4, budget=30, initial_size=9, skip_cost=0.5, label_noise=0.25, eval_every=2
    )
    assert config == plain
    assert json.loads(json.dumps(asdict(config))) == asdict(plain)
    assert isinstance(EnvConfig(budget=np.float64(1)).budget, float)


def test_an_int_is_images_and_a_float_a_share(dataset):
    assert make(dataset, budget=40).run.task.n_budget == 40
    assert make(dataset, budget=0.4).run.task.n_budget == 32
    assert make(dataset, budget=80).run.task.n_budget == make(dataset).run.task.n_budget == 80
    with pytest.raises(ValueError, match="budget=1 allows 1 labels; .* a float a share"):
        make(dataset, budget=1)


def test_what_is_right_stays_as_it_is():
    for settings in (
        {"reward": misclassification}, {"reward": "my_parts:surprise"}, {"budget": 1.0},
        {"initial_set": "~/labelled.CSV"}, {"initial_size": 0}, {"skip_cost": 0},
        {"resample_initial": True}, {"validation_fraction": 0},
    ):  # fmt: skip
        (name,) = settings
        value = getattr(EnvConfig(**settings), name)
        assert value == settings[name] and type(value) is type(settings[name])


@pytest.mark.parametrize("initial_set", ["known", "labelled.csv"])
def test_two_sizes_are_one_too_many(initial_set):
    with pytest.raises(ValueError, match="initial_size=5 and initial_set=.* both say how many"):
        EnvConfig(initial_size=5, initial_set=initial_set)
