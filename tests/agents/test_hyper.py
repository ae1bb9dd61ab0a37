"""The hyper-policy: one method below its threshold, the other from there on."""

import numpy as np
import pytest

from agents.hyper import HyperPolicy
from agents.transfer import CoveragePolicy
from tests.agents.sets.test_coverage import observe


@pytest.mark.parametrize("n_labelled", [0, 5, 6, 9])
def test_it_is_maxherding_below_the_threshold_and_the_margin_from_there_on(n_labelled):
    one = observe(60, 3, n_labelled)
    action, _ = HyperPolicy(2.0).predict(one)
    weights = {"coverage, far": 1.0} if n_labelled / 3 < 2 else {"margin": 1.0}
    expected, _ = CoveragePolicy.of(weights, embeddings=True).predict(one)
    np.testing.assert_array_equal(action, expected)


def test_it_says_what_an_observation_lacks():
    one = observe()
    del one["labelled_classes"]
    with pytest.raises(TypeError, match="no labelled_classes: wrap the environment"):
        HyperPolicy(2.0).predict(one)
    assert HyperPolicy.wants == {"embeddings": True, "labelled": True}
