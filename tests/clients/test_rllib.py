"""RLlib's algorithms; they take no matrices, hence ``flatten=True``."""

import math

import pytest

from tests.clients.tasks import ID, N_CLASSES, N_POOL, N_STEPS, SETTINGS, parameters

pytestmark = pytest.mark.slow


@pytest.fixture
def ray():
    """Ray on this machine, with one CPU."""
    import ray

    ray.init(
        num_cpus=1, object_store_memory=100_000_000, include_dashboard=False, log_to_driver=False
    )
    yield ray
    ray.shutdown()


@pytest.mark.usefixtures("ray")
def test_sac():
    """An iteration of SAC with `flatten=True`: finite losses, episodes of the right length."""
    from ray.rllib.algorithms.sac import SACConfig

    config = (
        SACConfig()
        .environment(ID, env_config={**SETTINGS, "flatten": True})
        .env_runners(num_env_runners=0, rollout_fragment_length=4)
        .training(
            train_batch_size_per_learner=8,
            num_steps_sampled_before_learning_starts=8,
            replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": 1000},
        )
        .reporting(min_sample_timesteps_per_iteration=40, min_time_s_per_iteration=0)
        .debugging(seed=0)
    )
    algorithm = config.build_algo()
    before = parameters(algorithm.get_module("default_policy"))
    result = algorithm.train()
    after = parameters(algorithm.get_module("default_policy"))
    env = algorithm.env_runner.env
    assert env.single_observation_space.shape == (N_POOL * N_CLASSES,)
    algorithm.stop()
    runners, learner = result["env_runners"], result["learners"]["default_policy"]
    assert runners["num_episodes"] >= 40 // N_STEPS - 1
    assert runners["episode_len_mean"] == N_STEPS
    assert 0 < runners["episode_return_mean"] < N_STEPS
    losses = {name: float(value) for name, value in learner.items() if name.endswith("_loss")}
    assert len(losses) >= 3 and all(map(math.isfinite, losses.values()))
    assert (before != after).any()
