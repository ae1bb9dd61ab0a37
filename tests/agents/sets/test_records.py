"""Records of settings, of this version and of earlier ones, and the agents that they make."""

from dataclasses import asdict

import pytest

from agents.ddpg import DDPG, DDPGConfig
from agents.sets import (
    PoolConfig,
    PoolDDPG,
    agent_from_record,
    config_from_record,
    needs_context,
    record_of,
)

OLD = {"base": "none", "credit": False, "storage": "float32"}
"""Of records of earlier versions, with the values that ask for nothing."""
ASKS = [{"mask": True}, {"noise_scale": "spread"}, {"networks": "set"}]


@pytest.mark.parametrize(
    "config", [DDPGConfig(gamma=0.5, seed=3), *(PoolConfig(**x) for x in ASKS)]
)
def test_settings_come_back(config):
    assert config_from_record(record_of(config)) == config


def test_records_of_all_agents_have_the_same_fields():
    """So that those of cells of earlier versions can be compared with new ones."""
    old = asdict(PoolConfig()) | OLD
    assert record_of(DDPGConfig()) == record_of(PoolConfig()) == old


def test_what_asks_for_nothing_more_is_the_papers(score_env):
    record = asdict(PoolConfig(width=16, seed=0)) | OLD
    assert type(config_from_record(record)) is DDPGConfig
    assert type(agent_from_record(score_env(), record)) is DDPG
    assert type(config_from_record({"width": 16})) is DDPGConfig


def test_what_asks_for_more_is_a_pools(score_env):
    for asks in ASKS:
        assert type(config_from_record(asks)) is PoolConfig
    agent = agent_from_record(score_env(), {"mask": True, "width": 16})
    assert type(agent) is PoolDDPG and agent.config == PoolConfig(mask=True, width=16)


@pytest.mark.parametrize("asks", [{}, {"mask": True, "networks": "set"}])
@pytest.mark.parametrize(
    ("name", "value"), [("credit", True), ("base", "ms"), ("storage", "float16"), ("unknown", 1)]
)
def test_what_there_is_no_longer_is_refused(asks, name, value):
    with pytest.raises(ValueError, match=rf"has no setting {name}={value!r}: .* still had it"):
        config_from_record(OLD | asks | {name: value})


def test_the_context_is_for_set_networks():
    assert needs_context(PoolConfig(networks="set"))
    assert not needs_context(PoolConfig(mask=True)) and not needs_context(DDPGConfig())
