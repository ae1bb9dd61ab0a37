"""Cells in one process on one vector environment: the curves of each alone, and the blame."""

import numpy as np
import pytest

from al_gym import ActiveLearningVectorEnv, ClassifierConfig, EnvConfig
from benchmarks import run
from benchmarks.matrix import executors, side_by_side
from benchmarks.matrix.recorder import Recorder
from tests.benchmarks.conftest import curves
from tests.samples import make_dataset


def make_vector(n, **change):
    settings = ClassifierConfig(device="cpu", pretrain_passes=1, **change)
    task = EnvConfig(initial_fraction=0.1, query_size=6, budget=0.4)
    return ActiveLearningVectorEnv(n, make_dataset(), task, settings)


def play_episode(env, seed):
    env.reset(seed=seed)
    rng, rewards, terminated = np.random.default_rng(seed), [], False
    while not terminated:
        _, reward, terminated, _, _ = env.step(rng.random(env.action_space.shape))
        rewards.append(reward)
    return rewards


def test_cells_side_by_side_have_the_curves_of_each_alone(finished, settings, tmp_path):
    """Four in two turns; Stable-Baselines3's after them, one by one."""
    config = settings(tmp_path / "out", methods=("ms", "drla", "sb3-ddpg"), side_by_side=3)
    assert run.main(config) == 0
    found = curves(config.out)
    assert len(found) == 6 and found.items() <= curves(finished).items()


def test_programs_of_different_length_play_to_their_ends():
    vector = make_vector(3)
    alone = [play_episode(make_vector(1).envs[0], seed) for seed in (5, 6)]

    def twice(env):
        return play_episode(env, 5), play_episode(env, 6)

    programs = [twice, lambda env: play_episode(env, 6), lambda env: "nothing"]
    both, second, nothing = side_by_side.play(vector, programs)
    assert both == tuple(alone) and second == alone[1] and nothing == "nothing"


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_only_the_program_to_blame_fails(trainable):
    vector = make_vector(2, trainable=trainable)

    def clumsy(env):
        env.reset(seed=0)
        with pytest.raises(ValueError, match="nan at pool row 0"):
            env.step(np.full(env.action_space.shape, np.nan))
        return play_episode(env, 0)

    results = side_by_side.play(vector, [clumsy, lambda env: play_episode(env, 1)])
    expected = [play_episode(make_vector(1, trainable=trainable).envs[0], seed) for seed in (0, 1)]
    for result, rewards in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, rewards, atol=1e-6)


def test_a_program_that_raises_is_heard_of_when_the_others_have_ended():
    ended = []

    def failing(env):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        side_by_side.play(make_vector(2), [failing, lambda env: ended.append(play_episode(env, 0))])
    assert len(ended) == 1


def test_more_programs_than_environments_are_refused():
    with pytest.raises(ValueError, match="3 programs for 2 environments"):
        side_by_side.play(make_vector(2), [lambda env: None] * 3)


def test_cells_that_find_no_room_together_are_reported(settings, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise MemoryError("out of memory")

    monkeypatch.setattr(executors, "make_vector_environment", full)
    config = settings(tmp_path / "out", methods=("random", "ms"), seeds=1, side_by_side=2)
    assert run.main(config) == 1
    assert capsys.readouterr().err.count("2 environments side by side could not be made") == 2


def test_stopped_cells_go_on_side_by_side(finished, settings, tmp_path, monkeypatch):
    config = settings(tmp_path / "out", methods=("random", "ms"), seeds=1, side_by_side=2)
    step = Recorder.step

    def stop(self, action):
        if self.n_steps == 3 + (self._method == "ms"):  # at different points
            raise RuntimeError("stopped")
        return step(self, action)

    monkeypatch.setattr(Recorder, "step", stop)
    assert run.main(config) == 1
    monkeypatch.undo()
    assert run.main(config) == 0
    found = curves(config.out)
    assert len(found) == 2 and found.items() <= curves(finished).items()


def test_one_process_only(settings, tmp_path):
    with pytest.raises(ValueError, match="side_by_side is for one process"):
        run.main(settings(tmp_path, side_by_side=2, workers=2))
    with pytest.raises(ValueError, match="side_by_side must be at least 1"):
        run.main(settings(tmp_path, side_by_side=0))
