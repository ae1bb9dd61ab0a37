"""TorchRL's environments, collectors and losses."""

import numpy as np
import pytest
import torch

from tests.clients.tasks import ID, N_CLASSES, N_POOL, N_STEPS, SETTINGS, make, parameters, walk

pytestmark = pytest.mark.slow


def policy():
    """From the flattened matrix to scores in [0, 1]."""
    from tensordict.nn import TensorDictModule

    torch.manual_seed(0)
    layers = torch.nn.Flatten(-2), torch.nn.Linear(N_POOL * N_CLASSES, N_POOL), torch.nn.Sigmoid()
    return TensorDictModule(
        torch.nn.Sequential(*layers), in_keys=["observation"], out_keys=["action"]
    )


def test_specs_and_infos():
    """`check_env_specs` of `GymEnv(id, ...)`, also with `auto_register_info_dict`; a rollout."""
    from torchrl.envs import GymEnv, check_env_specs

    env = GymEnv(ID, **SETTINGS)
    check_env_specs(env)
    env = env.auto_register_info_dict()
    check_env_specs(env)
    env.set_seed(7)
    with torch.no_grad():
        rollout = env.rollout(N_STEPS)
    assert rollout["next", "terminated"].ravel().tolist() == [False] * (N_STEPS - 1) + [True]
    bare = make()
    bare.reset(seed=7)
    seen = walk(bare, rollout["action"].numpy(), seed=None)
    for t in range(N_STEPS):
        observation, reward = rollout["next", "observation"][t], rollout["next", "reward"][t]
        np.testing.assert_array_equal(observation, seen.observations[t + 1])
        assert reward.item() == np.float32(seen.rewards[t])
        for key, value in seen.infos[t + 1].items():
            np.testing.assert_array_equal(rollout["next", key][t], value, err_msg=key)


def test_collector():
    """A collector gathers episodes under `no_grad`, with a policy."""
    from torchrl.collectors import Collector
    from torchrl.envs import GymEnv

    collector = Collector(GymEnv(ID, **SETTINGS), policy(), frames_per_batch=8, total_frames=16)
    batches = [batch.clone() for batch in collector]
    collector.shutdown()
    assert [len(batch) for batch in batches] == [8, 8]
    seen = torch.cat(batches)
    ends = [(t + 1) % N_STEPS == 0 for t in range(16)]
    assert seen["next", "terminated"].ravel().tolist() == ends
    assert seen["next", "reward"].isfinite().all() and (seen["next", "reward"] > 0).any()
    expected = policy()(seen.clone())["action"]
    torch.testing.assert_close(seen["action"], expected.detach())


def test_parallel_env():
    """`ParallelEnv`, two processes, gives the trajectories of `SerialEnv`."""
    from torchrl.envs import GymEnv, ParallelEnv, SerialEnv

    rollouts = []
    for kind in (SerialEnv, ParallelEnv):
        envs = kind(2, lambda: GymEnv(ID, **SETTINGS))
        try:
            envs.set_seed(3)
            rollouts.append(envs.rollout(N_STEPS, policy()).detach().clone())
        finally:
            envs.close()
    serial, parallel = rollouts
    assert parallel.shape == (2, N_STEPS)
    assert (serial == parallel).all()
    assert not torch.equal(parallel["action"][0], parallel["action"][1])


def test_ddpg_loss():
    """A step of `DDPGLoss` on collected transitions moves the actor."""
    from tensordict.nn import TensorDictModule
    from torchrl.envs import GymEnv
    from torchrl.objectives import DDPGLoss

    class Value(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(N_POOL * N_CLASSES + N_POOL, 1)

        def forward(self, observation, action):
            return self.linear(torch.cat([observation.flatten(-2), action], -1))

    rollout = GymEnv(ID, **SETTINGS).rollout(8, break_when_any_done=False)
    actor = policy()
    value = TensorDictModule(
        Value(), in_keys=["observation", "action"], out_keys=["state_action_value"]
    )
    loss = DDPGLoss(actor, value)
    optimizer = torch.optim.Adam(loss.parameters())
    before = parameters(actor)
    losses = loss(rollout)
    (losses["loss_actor"] + losses["loss_value"]).backward()
    optimizer.step()
    assert losses["loss_actor"].isfinite() and losses["loss_value"].isfinite()
    assert (before != parameters(actor)).all()
