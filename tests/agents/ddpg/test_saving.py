"""Saving and loading: exact continuation, atomic writing, and files that cannot be used."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from agents import checkpoint
from agents.ddpg import DDPG, DDPGConfig

SETTINGS: list[dict[str, Any]] = [
    {"batch_size": 4},
    {
        "gradient_steps": 2,
        "noise": "gaussian",
        "noise_space": "logit",
        "buffer_size": 25,  # less than the run: the ring has wrapped when it is saved
        "target_update": "epoch",
        "optimizer_impl": "default",
    },
    {"squash": "tanh", "gradient_steps": 1, "learning_starts": 40, "buffer_size": 30},
]

CONTINUE = """
import json, sys
from pathlib import Path
from tests_continuation import run  # written beside this script
folder = Path(sys.argv[1])
for i in range(int(sys.argv[2])):
    run(folder, i)
"""

CONTINUATION = '''
import json
from pathlib import Path

import gymnasium as gym
import numpy as np

from agents.ddpg import DDPG

LENGTH, MORE = 10, 25


def environment():
    return gym.make("Pendulum-v1", max_episode_steps=LENGTH)


def record(agent, steps):
    """Learn on and return every action and loss, as text that keeps every bit."""
    rows = []

    def callback(locals_, globals_):
        losses = {k: v for k, v in locals_["scalars"].items() if k.startswith("train")}
        rows.append([locals_["executed"].tolist(), float(locals_["reward"]), losses])

    agent.learn(steps, callback, reset_num_timesteps=False)
    return json.loads(json.dumps(rows))


def run(folder, i):
    agent = DDPG.load(folder / f"saved{i}", environment())
    (folder / f"rows{i}.json").write_text(json.dumps(record(agent, MORE)))
    agent.save(folder / f"continued{i}")
'''


def assert_equal_checkpoints(first: Path, second: Path) -> None:
    one, other = (
        json.dumps(checkpoint.read(p), default=lambda x: [str(x.dtype), x.tolist()])
        for p in (first, second)
    )
    assert one == other


def test_a_new_process_continues_bit_for_bit(tmp_path: Path) -> None:
    """Saved at the end of an episode after 30 steps; 25 more in a new process and a new env."""
    (tmp_path / "tests_continuation.py").write_text(CONTINUATION)
    (tmp_path / "script.py").write_text(CONTINUE)
    tools: dict[str, Any] = {}
    exec(CONTINUATION, tools)
    expected = []
    for i, settings in enumerate(SETTINGS):
        config = DDPGConfig(**{"width": 32, "seed": 7, "buffer_size": 100, **settings})
        agent = DDPG(tools["environment"](), config)
        agent.learn(30)
        agent.save(tmp_path / f"saved{i}")
        expected.append(tools["record"](agent, tools["MORE"]))  # saving has not disturbed it
        agent.save(tmp_path / f"uninterrupted{i}")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(checkpoint.__file__).parents[1]), str(tmp_path)]),
    }
    environment["OMP_NUM_THREADS"] = "1"  # as in this process
    subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path), str(len(SETTINGS))],
        check=True,
        env=environment,
    )
    for i, rows in enumerate(expected):
        assert json.loads((tmp_path / f"rows{i}.json").read_text()) == rows
        assert len(rows) == 25
        assert_equal_checkpoints(tmp_path / f"continued{i}", tmp_path / f"uninterrupted{i}")


def test_continuation_within_an_episode(score_env: Any, tmp_path: Path) -> None:
    """The environment is brought to the same point by the same seed and the same actions."""
    config = DDPGConfig(width=16, seed=3, buffer_size=40)
    env = score_env(max_steps=20)
    agent = DDPG(env, config).learn(12)
    agent.save(tmp_path / "saved")
    agent.learn(15, reset_num_timesteps=False)
    agent.save(tmp_path / "uninterrupted")

    again = score_env(max_steps=20)
    again.reset(seed=3)
    for action in env.actions[:12]:
        again.step(action)
    other = DDPG.load(tmp_path / "saved", again, force_reset=False)
    other.learn(15, reset_num_timesteps=False)
    other.save(tmp_path / "continued")
    np.testing.assert_array_equal(env.actions, again.actions)
    assert_equal_checkpoints(tmp_path / "continued", tmp_path / "uninterrupted")


def test_what_the_environment_keeps_between_episodes_is_kept(
    score_env: Any, tmp_path: Path
) -> None:
    """As the pool's initial labelled set, drawn by a reset with a seed, kept by others."""

    class Keeps(score_env):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            observation, info = super().reset(seed=seed)
            if seed is not None:
                self.kept = self.np_random.random(dtype=np.float32)
            observation[0] = self.kept
            return observation, info

    agent = DDPG(Keeps(max_steps=4), DDPGConfig(width=16, seed=3, buffer_size=40)).learn(8)
    agent.save(tmp_path / "saved")
    agent.learn(8, reset_num_timesteps=False)
    agent.save(tmp_path / "uninterrupted")
    other = DDPG.load(tmp_path / "saved", Keeps(max_steps=4))
    other.learn(8, reset_num_timesteps=False)
    other.save(tmp_path / "continued")
    assert_equal_checkpoints(tmp_path / "continued", tmp_path / "uninterrupted")


def test_a_loaded_agent_begins_a_new_episode_unless_told(score_env: Any, tmp_path: Path) -> None:
    agent = DDPG(score_env(max_steps=20), DDPGConfig(width=16, seed=3)).learn(12)
    agent.save(tmp_path / "saved")
    env = score_env(max_steps=20)
    loaded = DDPG.load(tmp_path / "saved", env)
    loaded.learn(3, reset_num_timesteps=False)
    assert env.seeds == [3, None]  # to the seed of the run, then on to a new episode
    assert loaded.num_timesteps == 15
    loaded = DDPG.load(tmp_path / "saved", env).learn(3)
    assert env.seeds == [3, None, 3]
    assert loaded.num_timesteps == 3


def test_predictions_survive(score_env: Any, tmp_path: Path) -> None:
    agent = DDPG(score_env(), DDPGConfig(width=16)).learn(6)
    path = agent.save(tmp_path / "sub" / "agent")
    assert path == tmp_path / "sub" / "agent.safetensors"
    observation = score_env().reset(seed=0)[0]
    for name in (path, tmp_path / "sub" / "agent"):
        loaded = DDPG.load(name, score_env(), device="cpu")
        np.testing.assert_array_equal(loaded.predict(observation)[0], agent.predict(observation)[0])


def test_an_untrained_agent(score_env: Any, tmp_path: Path) -> None:
    agent = DDPG(score_env(), DDPGConfig(width=16, seed=0))
    loaded = DDPG.load(agent.save(tmp_path / "new"), score_env())
    assert torch.equal(*(next(a.learn(6).critic.parameters()) for a in (agent, loaded)))


def test_the_file_is_safetensors_and_json_and_no_larger_than_its_content(
    score_env: Any, tmp_path: Path
) -> None:
    agent = DDPG(score_env(), DDPGConfig(width=16, buffer_size=100_000)).learn(6)
    path = agent.save(tmp_path / "agent")
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["tree"])
        names = set(file.keys())
    assert header["format"] == "drla-ddpg"
    assert header["counters"]["num_timesteps"] == 6
    assert {"actor.net.0.weight", "critic_target.net.4.bias", "buffer.states"} <= names
    assert path.stat().st_size < 100_000
    assert [p.name for p in tmp_path.iterdir()] == ["agent.safetensors"]


def test_writing_is_all_or_nothing(
    score_env: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = DDPG(score_env(), DDPGConfig(width=16)).learn(3)
    path = agent.save(tmp_path / "agent")
    before = path.read_bytes()
    agent.learn(3)

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        agent.save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.999])
def test_truncated(score_env: Any, tmp_path: Path, share: float) -> None:
    path = DDPG(score_env(), DDPGConfig(width=16)).learn(3).save(tmp_path / "agent")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"truncated.*save again"):
        DDPG.load(path, score_env())


def test_missing(score_env: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.safetensors"):
        DDPG.load(tmp_path / "nothing", score_env())


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"version": 0}, "format and version.*reads"), ({"format": "x"}, "format and version.*reads")],
)
def test_other_version(
    score_env: Any, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = DDPG(score_env(), DDPGConfig(width=16)).save(tmp_path / "agent")
    checkpoint.write(path, checkpoint.read(path) | changes)
    with pytest.raises(ValueError, match=message):
        DDPG.load(path, score_env())


def test_other_shape(score_env: Any, tmp_path: Path) -> None:
    path = DDPG(score_env(n=6), DDPGConfig(width=16)).save(tmp_path / "agent")
    with pytest.raises(ValueError, match=r"\[\[6, 2\], \[6\]\].*\[\[7, 2\], \[7\]\]"):
        DDPG.load(path, score_env(n=7))
    with pytest.raises(TypeError, match="Box"):
        DDPG.load(path, gym.make("CartPole-v1"))


def test_another_safetensors_file(score_env: Any, tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not a checkpoint of this project"):
        DDPG.load(tmp_path / "other", score_env())


def test_saved_again_before_it_went_on(tmp_path: Path) -> None:
    """A loaded agent that is saved at once holds the environment's generator of the first save."""
    tools: dict[str, Any] = {}
    exec(CONTINUATION, tools)
    config = DDPGConfig(width=16, seed=7, buffer_size=100)
    first = DDPG(tools["environment"](), config).learn(30).save(tmp_path / "first")
    second = DDPG.load(first, tools["environment"]()).save(tmp_path / "second")
    rows = [
        tools["record"](DDPG.load(path, tools["environment"]()), 12) for path in (first, second)
    ]
    assert rows[0] == rows[1]


def test_a_file_of_an_earlier_version_goes_on(score_env: Any, tmp_path: Path) -> None:
    """It has settings that are gone, and asked for nothing; empty credits; and no spaces."""
    agent = DDPG(score_env(), DDPGConfig(width=16, seed=3, buffer_size=40)).learn(5)
    path = agent.save(tmp_path / "agent")
    saved = checkpoint.read(path)
    saved["config"] |= {"storage": "float32", "credit": False, "base": "none", "mask": False}
    saved["buffer"]["credits"] = torch.zeros(5, 0)
    saved = {name: part for name, part in saved.items() if name not in ("spaces", "query_size")}
    saved["version"] = 2
    checkpoint.write(tmp_path / "old", saved)
    with pytest.raises(ValueError, match=r"version 2, which kept no spaces.*load\(path, env\)"):
        DDPG.load(tmp_path / "old")
    new, old = (DDPG.load(tmp_path / name, score_env()) for name in ("agent", "old"))
    for each in (new, old):
        each.learn(6, reset_num_timesteps=False)
    assert torch.equal(new.buffer.actions[:11], old.buffer.actions[:11])
    saved["config"] |= {"storage": "float16"}
    checkpoint.write(tmp_path / "half", saved)
    with pytest.raises(ValueError, match="no setting storage='float16'"):
        DDPG.load(tmp_path / "half", score_env())
