"""Tianshou's vector environments, collector and DDPG."""

import numpy as np
import pytest

from tests.clients.tasks import N_POOL, N_STEPS, actions, make, maker, parameters, walk

pytestmark = pytest.mark.slow


def ddpg(env):
    """Tianshou's DDPG with small networks."""
    from tianshou.algorithm import DDPG
    from tianshou.algorithm.modelfree.ddpg import ContinuousDeterministicPolicy
    from tianshou.algorithm.optim import AdamOptimizerFactory
    from tianshou.exploration import GaussianNoise
    from tianshou.utils.net.common import Net
    from tianshou.utils.net.continuous import ContinuousActorDeterministic, ContinuousCritic

    observed, scores = env.observation_space.shape, env.action_space.shape
    hidden = Net(state_shape=observed, hidden_sizes=[16])
    both = Net(state_shape=observed, action_shape=scores, hidden_sizes=[16], concat=True)
    policy = ContinuousDeterministicPolicy(
        actor=ContinuousActorDeterministic(preprocess_net=hidden, action_shape=scores),
        exploration_noise=GaussianNoise(sigma=0.1),
        action_space=env.action_space,
        observation_space=env.observation_space,
    )
    return DDPG(
        policy=policy,
        policy_optim=AdamOptimizerFactory(lr=1e-3),
        critic=ContinuousCritic(preprocess_net=both),
        critic_optim=AdamOptimizerFactory(lr=1e-3),
    )


def test_ddpg():
    """A collector fills a buffer, and DDPG is trained with finite losses."""
    from tianshou.algorithm.algorithm_base import policy_within_training_step
    from tianshou.data import Collector, VectorReplayBuffer
    from tianshou.env import DummyVectorEnv
    from tianshou.trainer import OffPolicyTrainerParams

    algorithm = ddpg(make())
    envs = DummyVectorEnv([maker(), maker()])
    collector = Collector(algorithm, envs, VectorReplayBuffer(200, 2), exploration_noise=True)
    collector.reset(gym_reset_kwargs={"seed": 0})
    assert collector.collect(n_step=16, random=True).n_collected_episodes == 4
    before = parameters(algorithm.policy)
    result = algorithm.run_training(
        OffPolicyTrainerParams(
            training_collector=collector, max_epochs=1, epoch_num_steps=16,
            collection_step_num_env_steps=8, batch_size=8, verbose=False, show_progress=False,
            update_step_num_gradient_steps_per_sample=0.5,
        )
    )  # fmt: skip
    after = parameters(algorithm.policy)
    assert np.isfinite(after).all() and (before != after).any()
    assert result.update_step > 0 and len(collector.buffer) == 32
    batch, _ = collector.buffer.sample(20)
    with policy_within_training_step(algorithm.policy):
        losses = algorithm.update(collector.buffer, 8).get_loss_stats_dict()
    assert losses and np.isfinite(list(losses.values())).all()
    assert batch.info.selected.shape == (20, 4) and (batch.info.selected >= 0).all()


@pytest.mark.parametrize("kind", ["DummyVectorEnv", "SubprocVectorEnv"])
def test_out_of_step(kind):
    """`DummyVectorEnv` and `SubprocVectorEnv` with episodes of two lengths."""
    from tianshou import env as vectors

    budgets = (20, 12)
    envs = getattr(vectors, kind)([maker(budget=budget) for budget in budgets])
    try:
        observations, _ = envs.reset(seed=0)  # the same for all of them
        singles = [make(budget=budget) for budget in budgets]
        expected = [one.reset(seed=0)[0] for one in singles]
        np.testing.assert_array_equal(observations, expected)
        lengths = []
        for action in actions(2 * N_STEPS):
            observations, rewards, done, _, infos = envs.step(np.stack([action, action]))
            lengths.append(tuple(done))
            for k, one in enumerate(singles):
                observation, reward, terminated, _, info = one.step(action)
                np.testing.assert_array_equal(observations[k], observation)
                np.testing.assert_equal(infos[k]["available"], info["available"])
                assert (rewards[k], done[k]) == (reward, terminated)
                if terminated:
                    begun, _ = envs.reset(np.array([k]))
                    np.testing.assert_array_equal(begun[0], one.reset()[0])
    finally:
        envs.close()
    assert (False, True) in lengths and any(first for first, _ in lengths)


def test_collector():
    """A collector's episodes are those of the bare environment."""
    from tianshou.data import Collector, VectorReplayBuffer
    from tianshou.env import DummyVectorEnv

    algorithm = ddpg(make())
    envs = DummyVectorEnv([maker(), maker(budget=12)])
    collector = Collector(algorithm, envs, VectorReplayBuffer(100, 2))
    collector.reset(gym_reset_kwargs={"seed": 4})
    stats = collector.collect(n_episode=4)
    assert stats.n_collected_episodes == 4 and sorted(set(stats.lens)) == [2, N_STEPS]
    kept = collector.buffer.buffers[0]
    scores = kept.act[:N_STEPS]
    assert scores.shape == (N_STEPS, N_POOL)
    seen = walk(make(), algorithm.policy.map_action(scores), seed=4)
    np.testing.assert_array_equal(kept.obs[:N_STEPS], np.stack(seen.observations[:-1]))
    np.testing.assert_allclose(kept.rew[:N_STEPS], seen.rewards, atol=1e-6)
