"""Settings: what is refused, and records of earlier versions."""

from dataclasses import asdict
from typing import Any

import pytest

from agents.ddpg import DDPGConfig

OLD = {
    **{"noise_scale": "fixed", "mask": False, "networks": "mlp", "base": "none", "credit": False},
    "storage": "float32",
}
"""What records had beyond today's fields, with values that ask for nothing."""


@pytest.mark.parametrize(
    "setting",
    [
        {"gamma": 1.1},
        {"tau": 0.0},
        {"learning_rate": -1.0},
        {"batch_size": 0},
        {"width": 0},
        {"squash": "relu"},
        {"gradient_steps": "all"},
        {"gradient_steps": -1},
        {"gradient_steps": 1.5},
        {"gamma": None},
        {"batch_size": 2.5},
        {"learning_rate": float("inf")},
        {"target_update": "never"},
        {"noise": "pink"},
        {"noise_space": "weights"},
        {"noise_sigma": -0.1},
        {"noise_dt": 0.0},
        {"learning_starts": -1},
        {"buffer_size": 0},
        {"optimizer_impl": "sgd"},
        {"seed": -1},
    ],
)
def test_settings_out_of_range_are_named(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        DDPGConfig(**setting)


def test_a_record_comes_back() -> None:
    config = DDPGConfig(gamma=0.5, gradient_steps=3, seed=7, noise="none")
    assert DDPGConfig.from_record(asdict(config)) == config
    assert DDPGConfig.from_record({"gamma": 0.5}) == DDPGConfig(gamma=0.5)


def test_a_record_of_an_earlier_version_is_read_where_it_asks_for_nothing() -> None:
    config = DDPGConfig(width=16, seed=0)
    assert DDPGConfig.from_record(asdict(config) | OLD) == config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("credit", True),
        ("base", "ms"),
        ("storage", "float16"),
        ("mask", True),
        ("networks", "set"),
        ("noise_scale", "spread"),
        ("unheard_of", 0),
    ],
)
def test_a_record_that_asks_for_what_there_is_not_is_refused(name: str, value: Any) -> None:
    record = asdict(DDPGConfig()) | OLD | {name: value}
    with pytest.raises(ValueError, match=rf"DDPGConfig has no setting {name}={value!r}"):
        DDPGConfig.from_record(record)


def test_values_of_a_record_are_checked() -> None:
    with pytest.raises(ValueError, match="tau is out of range"):
        DDPGConfig.from_record({"tau": 0})
