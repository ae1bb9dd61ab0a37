"""What learning tells: callbacks, TensorBoard, the progress bar."""

import sys
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3.common.callbacks import BaseCallback

from agents.ddpg import DDPG, DDPGConfig


def config(**settings: Any) -> DDPGConfig:
    return DDPGConfig(**{"width": 16, "seed": 0, **settings})


def test_a_callable_gets_locals_and_stops_by_false(score_env: Any) -> None:
    rewards: list[float] = []

    def callback(locals_: dict[str, Any], globals_: dict[str, Any]) -> bool | None:
        rewards.append(locals_["reward"])
        assert locals_["self"].num_timesteps == len(rewards)
        assert "DDPG" in globals_
        return None if len(rewards) < 4 else False

    assert DDPG(score_env(), config()).learn(10, callback).num_timesteps == 4
    assert len(rewards) == 4


def test_an_object_with_on_step(score_env: Any) -> None:
    class Counter:
        calls = 0

        def on_step(self) -> bool:
            self.calls += 1
            return self.calls < 3

    counter = Counter()
    assert DDPG(score_env(), config()).learn(10, counter).num_timesteps == counter.calls == 3


def test_a_callback_of_sb3(score_env: Any) -> None:
    class Record(BaseCallback):
        def _on_training_start(self) -> None:
            self.events = ["start"]

        def _on_step(self) -> bool:
            self.events.append(f"{self.n_calls} {self.num_timesteps} {self.locals['terminated']}")
            return True

        def _on_training_end(self) -> None:
            self.events.append("end")

    callback = Record()
    agent = DDPG(score_env(max_steps=2), config()).learn(3, callback)
    assert callback.events == ["start", "1 1 False", "2 2 True", "3 3 False", "end"]
    assert callback.model is agent


def test_a_callback_of_another_kind(score_env: Any) -> None:
    with pytest.raises(TypeError, match="on_step"):
        DDPG(score_env(), config()).learn(1, callback=3)


def test_tensorboard(score_env: Any, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    DDPG(score_env(max_steps=3), config(log_dir=str(tmp_path))).learn(7)
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == {
        "rollout/reward",
        "rollout/noise_scale",
        "rollout/episode_return",
        "train/critic_loss",
        "train/actor_loss",
        "train/q",
        "info/macro_f1",
        "info/micro_f1",
    }
    assert [event.step for event in events.Scalars("train/critic_loss")] == list(range(1, 8))
    scores = [event.value for event in events.Scalars("info/macro_f1")]
    assert scores == pytest.approx([0.5 + 0.01 * t for t in range(1, 8)])
    returns = events.Scalars("rollout/episode_return")
    rewards = [event.value for event in events.Scalars("rollout/reward")]
    assert [event.step for event in returns] == [3, 6]
    assert returns[1].value == pytest.approx(sum(rewards[3:6]), rel=1e-5)


def test_log_dir_without_tensorboard(
    score_env: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        DDPG(score_env(), config(log_dir=str(tmp_path))).learn(1)


def test_progress_bar(score_env: Any, capsys: pytest.CaptureFixture[str]) -> None:
    DDPG(score_env(), config()).learn(3)
    assert capsys.readouterr().err == ""
    DDPG(score_env(), config()).learn(3, progress_bar=True)
    assert "3/3" in capsys.readouterr().err
