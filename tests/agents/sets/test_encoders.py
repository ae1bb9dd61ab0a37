"""What set networks are given of an observation, by what its space holds."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from agents.sets import coverage, pool_features
from agents.sets.coverage import Memory, survey
from agents.sets.encoders import SetEncoder
from agents.sets.pool_features import describe, flatten
from tests.agents.sets.test_coverage import grown, observe


def space_of(observation):
    parts = {
        key: gym.spaces.Box(-np.inf, np.inf, part.shape, np.float32)
        for key, part in observation.items()
    }
    return gym.spaces.Dict(parts)


def plain(observation):
    return {key: observation[key] for key in pool_features.KEYS}


def test_without_labelled_samples_states_are_those_of_the_pool():
    one = plain(observe(gone=[3]))
    encode = SetEncoder(space_of(one), torch.device("cpu"))
    states, is_single = encode(one)
    assert is_single and encode.sizes == pool_features.SIZES
    assert torch.equal(states[0], flatten(describe(one))) and states.shape == (1, encode.size)


def test_with_labelled_samples_states_are_those_of_the_survey():
    one = observe(gone=[3], n_labelled=5)
    encode = SetEncoder(space_of(one), torch.device("cpu"))
    for n in (3, 5):
        states, _ = encode(grown(one, n))
        expected, _ = survey(grown(one, n), Memory().of(grown(one, n)))
        assert torch.equal(states[0], flatten(expected)) and states.shape == (1, encode.size)
    assert encode.sizes == coverage.SIZES == expected.features.shape[:1] + expected.context.shape
    in_pool = encode.in_pool(states)
    assert in_pool.shape == (1, 20) and torch.equal(in_pool[0], torch.tensor(one["softmax"].any(1)))
    stacked, is_single = encode({key: np.stack([part, part]) for key, part in one.items()})
    assert not is_single and torch.equal(stacked, torch.cat([states, states]))


def test_an_observation_that_lacks_what_the_space_has_is_refused():
    one = observe()
    encode = SetEncoder(space_of(one), torch.device("cpu"))
    with pytest.raises(TypeError, match="no embeddings, labelled_embeddings, labelled_classes"):
        encode(plain(one))
