"""Agents of sb3-contrib."""

import numpy as np
import pytest

from tests.clients.tasks import N_POOL, learned, make

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["TQC", "CrossQ"])
def test_off_policy(name):
    """TQC and CrossQ learn with finite losses."""
    import sb3_contrib

    settings = {"learning_starts": 8, "batch_size": 8, "policy_kwargs": {"net_arch": [16, 16]}}
    agent = getattr(sb3_contrib, name)("MlpPolicy", make(), seed=0, device="cpu", **settings)
    losses = list(learned(agent, 20).values())
    assert len(losses) >= 2 and np.isfinite(losses).all()


def test_ars():
    """ARS searches under `torch.no_grad`, where the environment trains all the same."""
    from sb3_contrib import ARS

    agent = ARS("LinearPolicy", make(), n_delta=2, seed=0, device="cpu", zero_policy=False)
    learned(agent, 40)
    assert agent.num_timesteps >= 32
    action, _ = agent.predict(make().reset(seed=0)[0], deterministic=True)
    assert action.shape == (N_POOL,)
