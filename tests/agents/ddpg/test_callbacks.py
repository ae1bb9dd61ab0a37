"""What learning tells: callbacks, loggers, the progress bar."""

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common import callbacks
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from tqdm import tqdm

from agents.ddpg import DDPG, DDPGConfig
from agents.ddpg.health import NAMES


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
        # the environment selects nothing, so nothing is tied
        *(f"health/{name}" for name in NAMES if name != "tied"),
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


# --- Stable-Baselines3's, by what they do -------------------------------------------------------


def evaluated(env: Any, **settings: Any) -> callbacks.EvalCallback:
    """An EvalCallback on two episodes, without its prints and its wish for a Monitor."""
    return callbacks.EvalCallback(env, n_eval_episodes=2, verbose=0, warn=False, **settings)


def test_a_list_of_all_forms(score_env: Any) -> None:
    calls: list[str] = []

    class Plain:
        def on_step(self) -> None:
            calls.append("object")

    def stop(*_: Any) -> bool:
        calls.append("callable")
        return len(calls) < 9

    every = callbacks.EveryNTimesteps(
        2, callbacks.ConvertCallback(lambda *_: not calls.append("2"))
    )
    agent = DDPG(score_env(), config()).learn(10, [every, Plain(), (stop,)])
    first, second = ["object", "callable"], ["2", "object", "callable"]
    assert calls == first + second + first + second
    assert agent.num_timesteps == 4


def test_locals_are_those_that_sb3_has(score_env: Any) -> None:
    seen: list[dict[str, Any]] = []
    env = score_env(max_steps=2)
    agent = DDPG(env, config()).learn(1)
    agent.learn(2, lambda local, _: seen.append(dict(local)), reset_num_timesteps=False)
    for local, done, observation, action in zip(
        seen,
        [True, False],
        [env.observations[2], env.observations[4]],
        env.actions[1:],
        strict=True,
    ):
        assert local["self"] is agent
        assert local["total_timesteps"] == 3
        assert local["dones"].tolist() == [done]
        assert local["infos"][0]["micro_f1"] == 0.25
        np.testing.assert_array_equal(local["new_obs"], observation[None])
        np.testing.assert_array_equal(local["actions"], action[None])
        assert local["rewards"] == pytest.approx(1 - np.abs(action - 0.8).mean())


def test_evaluation_and_the_best_model(score_env: Any, tmp_path: Path) -> None:
    alone = DDPG(score_env(), config(noise="none")).learn(6)
    eval_env = score_env(max_steps=3)
    saved: list[int] = []
    callback = evaluated(
        eval_env,
        eval_freq=2,
        best_model_save_path=str(tmp_path / "best"),
        log_path=str(tmp_path),
        callback_on_new_best=callbacks.ConvertCallback(
            lambda *_: not saved.append(callback.num_timesteps)
        ),
    )
    agent = DDPG(score_env(), config(noise="none")).learn(6, callback)
    log = np.load(tmp_path / "evaluations.npz")
    assert log["timesteps"].tolist() == [2, 4, 6]
    assert log["ep_lengths"].tolist() == [[3, 3]] * 3
    rewards = [1 - np.abs(action - 0.8).mean() for action in eval_env.actions]
    np.testing.assert_allclose(
        log["results"], np.reshape(rewards, (3, 2, 3)).sum(axis=2), rtol=1e-6
    )
    best = log["results"].mean(axis=1)
    assert saved == [2 * (i + 1) for i in range(3) if best[i] > max([*best[:i], -np.inf])]
    loaded = DDPG.load(tmp_path / "best" / "best_model")
    assert loaded.num_timesteps == saved[-1] == log["timesteps"][best.argmax()]
    # who is watched learns what one learns alone
    for mine, other in zip(agent.actor.parameters(), alone.actor.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_training_stops_at_a_reward(score_env: Any) -> None:
    for threshold, steps in ((0.0, 3), (1e9, 8)):
        stop = callbacks.StopTrainingOnRewardThreshold(threshold)
        callback = evaluated(score_env(), eval_freq=3, callback_on_new_best=stop)
        assert DDPG(score_env(), config()).learn(8, callback).num_timesteps == steps


def test_training_stops_when_nothing_gets_better(score_env: Any) -> None:
    stop = callbacks.StopTrainingOnNoModelImprovement(max_no_improvement_evals=2)
    worse = score_env(rewards=dict.fromkeys(range(1, 100), 0.5))  # all evaluations alike
    callback = evaluated(worse, eval_freq=1, callback_after_eval=stop)
    assert DDPG(score_env(), config()).learn(20, callback).num_timesteps == 1 + 3


@pytest.mark.parametrize("truncate", [False, True])
def test_training_stops_after_so_many_episodes(score_env: Any, truncate: bool) -> None:
    callback = callbacks.StopTrainingOnMaxEpisodes(2)
    agent = DDPG(score_env(max_steps=3, truncate=truncate), config()).learn(20, callback)
    assert (agent.num_timesteps, agent.episodes) == (6, 2)


def test_checkpoints_with_the_replay_buffer(score_env: Any, tmp_path: Path) -> None:
    callback = callbacks.CheckpointCallback(
        2, str(tmp_path), save_replay_buffer=True, save_vecnormalize=True
    )
    agent = DDPG(score_env(), config()).learn(5, callback)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"rl_model_{name}{step}_steps.safetensors"
        for name in ("", "replay_buffer_")
        for step in (2, 4)
    }
    loaded = DDPG.load(tmp_path / "rl_model_4_steps.zip")  # as SB3 calls it
    assert loaded.num_timesteps == len(loaded.buffer) == 4
    agent.load_replay_buffer(tmp_path / "rl_model_replay_buffer_2_steps.pkl")
    assert torch.equal(agent.buffer.actions[:2], loaded.buffer.actions[:2])
    assert len(agent.buffer) == 2


def test_progress_bar_of_sb3(
    score_env: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "tqdm", tqdm)  # SB3's own is tqdm's for rich, if that is there
    agent = DDPG(score_env(), config()).learn(2, callbacks.ProgressBarCallback())
    assert "2/2" in capsys.readouterr().err
    agent.learn(3, callbacks.ProgressBarCallback(), reset_num_timesteps=False)
    assert "3/3" in capsys.readouterr().err


def test_logger_of_sb3(score_env: Any, tmp_path: Path) -> None:
    agent = DDPG(score_env(max_steps=2), config(log_dir=str(tmp_path / "unused")))
    agent.set_logger(configure(str(tmp_path), ["csv"]))
    seen: list[dict[str, float]] = []
    agent.learn(4, lambda local, _: seen.append(local["scalars"]), log_interval=2)
    agent.logger.close()
    with (tmp_path / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["time/total_timesteps"] for row in rows] == ["2", "4"]
    assert [row["time/episodes"] for row in rows] == ["1", "2"]
    for row, scalars in zip(rows, seen[1::2], strict=True):
        assert "rollout/episode_return" in scalars
        assert {name: float(row[name]) for name in scalars} == pytest.approx(scalars)
    assert not (tmp_path / "unused").exists()


def test_a_callback_writes_to_log_dir(score_env: Any, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    class Record(BaseCallback):
        def _on_step(self) -> bool:
            self.logger.record("mine/steps", self.num_timesteps)
            return True

    agent = DDPG(score_env(), config(log_dir=str(tmp_path)))
    before = agent.logger
    agent.learn(3, [Record(), evaluated(score_env(), eval_freq=3)])
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("mine/steps")] == [
        (step, step) for step in (1, 2, 3)
    ]
    assert [event.step for event in events.Scalars("eval/mean_reward")] == [3]
    assert agent.logger is before


def test_log_every_n_timesteps(score_env: Any, tmp_path: Path) -> None:
    if not hasattr(callbacks, "LogEveryNTimesteps"):
        pytest.skip("this version of Stable-Baselines3 has no LogEveryNTimesteps")
    agent = DDPG(score_env(), config())
    agent.set_logger(configure(str(tmp_path), ["csv"]))
    agent.learn(7, callbacks.LogEveryNTimesteps(3), log_interval=None)
    agent.logger.close()
    with (tmp_path / "progress.csv").open() as file:
        assert [row["time/total_timesteps"] for row in csv.DictReader(file)] == ["3", "6"]


def test_a_callback_that_fails_leaves_the_logger(score_env: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    agent = DDPG(score_env(), config(log_dir=str(tmp_path)))
    before = agent.logger

    def fail(*_: Any) -> None:
        assert agent.logger is not before
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        agent.learn(2, fail)
    assert agent.logger is before
