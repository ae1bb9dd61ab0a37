"""Minari's data sets of episodes."""

import numpy as np
import pytest

from tests.clients.tasks import N_STEPS, actions, make, walk

pytestmark = pytest.mark.slow


@pytest.fixture
def minari(tmp_path, monkeypatch):
    """Minari, with a folder of its own."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    import minari

    return minari


def test_record_load_and_recover(minari):
    """`DataCollector` records two episodes with infos; they are loaded and played again."""
    env = minari.DataCollector(make(), record_infos=True)
    episodes = [walk(make(), actions(N_STEPS, seed), seed=seed) for seed in (0, 1)]
    for seed in (0, 1):
        env.reset(seed=seed)
        for action in actions(N_STEPS, seed):
            *_, terminated, _, _ = env.step(action)
        assert terminated
    env.create_dataset("chestct/random-v0", algorithm_name="random")
    env.close()
    dataset = minari.load_dataset("chestct/random-v0")
    assert (dataset.total_episodes, dataset.total_steps) == (2, 2 * N_STEPS)
    for seed, (kept, seen) in enumerate(zip(dataset.iterate_episodes(), episodes, strict=True)):
        np.testing.assert_array_equal(kept.observations, np.stack(seen.observations))
        np.testing.assert_array_equal(kept.actions, actions(N_STEPS, seed))
        np.testing.assert_array_equal(kept.rewards, seen.rewards)
        assert kept.terminations.tolist() == seen.terminated and not kept.truncations.any()
        assert kept.infos.keys() == seen.infos[0].keys()
        for key, values in kept.infos.items():
            expected = np.stack([info[key] for info in seen.infos])
            np.testing.assert_array_equal(np.asarray(values).reshape(expected.shape), expected)
    recovered = dataset.recover_environment()
    assert recovered.spec.kwargs == make().spec.kwargs
    assert walk(recovered, actions(N_STEPS)).rewards == episodes[0].rewards
