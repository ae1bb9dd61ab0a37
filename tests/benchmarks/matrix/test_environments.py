"""What methods can be compared on, and what not."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.matrix.environments import (
    check_comparable,
    make_environment,
    make_vector_environment,
)
from tests.samples import make_dataset


def test_a_data_set_with_labels_and_test_images_will_do():
    check_comparable(make_dataset())


def test_without_test_images_or_labels_it_is_refused_with_what_to_do():
    images = make_dataset(n_train=20)
    none = replace(images, test=np.array([], np.int64))
    with pytest.raises(ValueError, match=r"generated has no test images, .*benchmarks\.query"):
        check_comparable(none)
    labels = images.labels.copy()
    labels[[7, 9]] = -1
    message = r"the labels of 2 of 20 training images are not known, that of 7 .*benchmarks\.query"
    with pytest.raises(ValueError, match=message):
        check_comparable(replace(images, labels=labels))


def test_methods_do_not_take_flat_observations(few_scans):
    config = {"dataset": "chestCT", "settings": {"profile": "embedded", "flatten": True}}
    for make in (make_environment, lambda config: make_vector_environment(config, 2)):
        with pytest.raises(ValueError, match="leave out flatten"):
            make(config)
