"""What only a GPU can show; everything else is tested on the CPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from al_gym import ActiveLearningEnv, ActiveLearningVectorEnv, ClassifierConfig, EnvConfig
from al_gym.classifiers import make_classifiers
from tests.samples import One

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

CONFIG = ClassifierConfig(learning_rate=0.02, momentum=0.9, pretrain_passes=2, device="cuda")
TASK = EnvConfig(initial_fraction=0.1, query_size=6, budget=0.4)


def play(env, n_steps=4):
    observation, _ = env.reset(seed=3)
    seen = [observation]
    for _ in range(n_steps):
        observation, *_ = env.step(1 - observation.max(axis=-1))
        seen.append(observation)
    return np.stack(seen)


@pytest.mark.parametrize("trainable", ["all", "head"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_gives_the_same_bits(dataset, trainable, precision):
    config = replace(CONFIG, trainable=trainable, precision=precision)
    first, second = (play(ActiveLearningEnv(dataset, TASK, config)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_first_steps_are_those_of_the_cpu(dataset):
    on_gpu, on_cpu = (
        play(ActiveLearningEnv(dataset, TASK, replace(CONFIG, device=device)), n_steps=1)
        for device in ("cuda", "cpu")
    )
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        {"trainable": "all"},
        {"trainable": "head"},
        {"trainable": "head", "optimizer": "newton", "weight_decay": 0.1},
    ],
    ids=str,
)
def test_side_by_side_they_go_as_alone(dataset, change):
    config = replace(CONFIG, **change)
    vector = ActiveLearningVectorEnv(4, dataset, TASK, config)
    together = play(vector)
    for k in range(4):
        env = ActiveLearningEnv(dataset, TASK, config)
        observation, _ = env.reset(seed=3 + k)
        np.testing.assert_allclose(together[0, k], observation, atol=1e-5)
        observation, *_ = env.step(1 - observation.max(axis=-1))
        np.testing.assert_allclose(together[1, k], observation, atol=1e-5)


def test_images_are_streamed_as_they_lie(dataset):
    seen = []
    for place in ("device", "host"):
        config = replace(CONFIG, images=place, inference_batch_size=7)
        classifier = One(make_classifiers(dataset, config))
        classifier.fit(dataset.train, dataset.labels[dataset.train], 3, np.random.default_rng(1))
        seen.append(classifier.predict(np.arange(len(dataset.images))))
    np.testing.assert_array_equal(*seen)
