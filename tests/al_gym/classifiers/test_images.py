"""Images on the device and streamed to it: the same batches, and a pool larger than memory."""

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from al_gym.classifiers import make_classifiers
from al_gym.classifiers.images import DeviceImages, split
from al_gym.classifiers.networks import ClassifierConfig
from tests.samples import FAST, One

CPU = torch.device("cpu")


@pytest.mark.parametrize("place", ["auto", "device", "host"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_batches_are_the_rows_in_their_storage_type(place, dtype, tmp_path):
    images = np.random.default_rng(0).integers(0, 200, (20, 2, 3, 4)).astype(dtype)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="c")
    rows = np.array([3, 19, 0, 3, 7, 8, 9])
    for source in (images, mapped):
        batches = DeviceImages(source, CPU, place).batches(split(rows, 3))
        found = [batch.numpy().copy() for batch in batches]
        assert [len(batch) for batch in found] == [3, 3, 1]
        assert all(batch.dtype == dtype for batch in found)
        np.testing.assert_array_equal(np.concatenate(found), images[rows])


def test_a_batch_stays_until_the_next_but_one():
    images = np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1)
    batches = DeviceImages(images, CPU, "host").batches(split(np.arange(12), 4))
    first, second = next(batches), next(batches)
    assert first.flatten().tolist() == [0, 1, 2, 3] and second.flatten().tolist() == [4, 5, 6, 7]


def test_a_streamed_classifier_learns_and_predicts_the_same(dataset):
    seen = []
    for place in ("device", "host"):
        config = replace(FAST, images=place)
        classifier = One(make_classifiers(dataset, config))
        rows = dataset.train[:40]
        classifier.fit(rows, dataset.labels[rows], 3, np.random.default_rng(1))
        seen.append(classifier.predict(dataset.test))
    np.testing.assert_array_equal(*seen)


MILLION = """
import sys
import numpy as np
from torch import nn
from al_gym import ActiveLearningEnv, ClassifierConfig, EnvConfig, ImageDataset

n = 1_000_000
images = np.load(sys.argv[1], mmap_mode="c")
labels = np.arange(n) % 3
dataset = ImageDataset(images, labels, ("a", "b", "c"), np.arange(n), np.arange(n - 1000),
                       np.arange(n - 1000, n), "a memory map")

def tiny(channels, n_classes):
    return nn.Sequential(nn.AvgPool2d(7), nn.Flatten(), nn.Linear(16 * channels, n_classes))

config = ClassifierConfig(network=tiny, device="cpu", images=sys.argv[2], pretrain_passes=1,
                          inference_batch_size=4096)
env = ActiveLearningEnv(dataset, EnvConfig(initial_fraction=1e-4, query_size=100), config)
observation, _ = env.reset(seed=0)
observation, _, _, _, info = env.step(1 - observation.max(axis=1))
assert np.count_nonzero(observation.any(axis=1)) == len(observation) - 100
print(env.run.counters.samples_forwarded)
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["auto", "host"])
def test_a_million_images_work_within_four_gigabytes(tmp_path, place):
    """The process's own memory; what it maps of the file, the system takes back as it needs."""
    file = tmp_path / "million.npy"
    images = np.lib.format.open_memmap(file, "w+", np.uint8, (1_000_000, 3, 28, 28))
    for start in range(0, len(images), 50_000):
        images[start : start + 50_000] = np.arange(start, start + 50_000)[:, None, None, None] % 251
    del images
    process = subprocess.Popen(
        [sys.executable, "-c", MILLION, str(file), place], stdout=subprocess.PIPE, text=True
    )
    most = 0

    def watch():
        nonlocal most
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                return
            own = [line for line in status.splitlines() if line.startswith("RssAnon")]
            most = max([most, *(int(line.split()[1]) * 1024 for line in own)])
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate(timeout=600)
    watcher.join()
    assert process.returncode == 0
    assert 0 < most < 4 * 2**30
    assert int(output) == 999_000 - 99 - 100 + 1000


def test_where_images_lie_is_checked():
    with pytest.raises(ValueError, match="images must be one of"):
        ClassifierConfig(images="moon")
