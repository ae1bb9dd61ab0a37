"""d3rlpy, which learns from recorded episodes and online. It wants Gymnasium 1.0."""

import numpy as np
import pytest

from tests.clients.tasks import N_STEPS, actions, make, parameters, walk

pytestmark = pytest.mark.slow


def agent(env):
    """TD3 with BC, with small networks, told that scores are in [0, 1]."""
    import d3rlpy

    encoder = d3rlpy.models.VectorEncoderFactory([16])
    return d3rlpy.algos.TD3PlusBCConfig(
        batch_size=8,
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        action_scaler=d3rlpy.preprocessing.MinMaxActionScaler(
            minimum=env.action_space.low, maximum=env.action_space.high
        ),
    ).create(device="cpu:0")


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Five episodes that Minari has recorded."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    import minari

    env = minari.DataCollector(make(flatten=True))
    for seed in range(5):
        env.reset(seed=seed)
        for action in actions(N_STEPS, seed):
            env.step(action)
    env.create_dataset("chestct/random-v0", algorithm_name="random")
    env.close()
    return minari.load_dataset("chestct/random-v0")


def test_offline(recorded):
    """TD3+BC learns from episodes recorded by Minari, with finite losses, and acts."""
    import d3rlpy

    # not d3rlpy.datasets.get_minari, which pairs T + 1 observations with T actions
    episodes = list(recorded.iterate_episodes())
    dataset = d3rlpy.dataset.MDPDataset(
        observations=np.concatenate([each.observations[:-1] for each in episodes]),
        actions=np.concatenate([each.actions for each in episodes]),
        rewards=np.concatenate([each.rewards for each in episodes]),
        terminals=np.concatenate([each.terminations for each in episodes]).astype(float),
    )
    env = recorded.recover_environment()
    expected = walk(make(flatten=True), actions(N_STEPS, 3), seed=3)
    np.testing.assert_array_equal(dataset.episodes[3].observations, expected.observations[:-1])
    np.testing.assert_array_equal(dataset.episodes[3].rewards[:, 0], expected.rewards)
    learner = agent(env)
    learner.build_with_dataset(dataset)
    before = parameters(learner.impl.policy)
    adapter = d3rlpy.logging.NoopAdapterFactory()
    ((_, metrics),) = learner.fit(
        dataset, n_steps=10, n_steps_per_epoch=10, logger_adapter=adapter, show_progress=False
    )
    assert len(dataset.episodes) == 5
    losses = [value for name, value in metrics.items() if "loss" in name]
    assert losses and np.isfinite(losses).all()
    assert (before != parameters(learner.impl.policy)).any()
    observation, _ = env.reset(seed=0)
    action = learner.predict(observation[None])[0]
    assert env.action_space.contains(np.clip(action, 0, 1).astype(np.float32))
    assert np.abs(np.clip(action, 0, 1) - action).max() < 1e-5
    assert env.step(action)[1] >= 0
