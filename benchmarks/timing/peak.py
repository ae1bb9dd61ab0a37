"""How much of what the machine can do our networks use."""

import functools
import statistics

import numpy as np
import torch
from torch import nn

from al_gym import ClassifierConfig
from al_gym.classifiers.networks import NetworkClassifier, network_over
from benchmarks.timing import peers
from benchmarks.timing.paper import flops_of
from benchmarks.timing.turns import Work, take_turns

NETWORKS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("small3d", (2, 32, 32, 32)), ("small3d", (2, 16, 16, 16)), ("small2d", (3, 64, 64)),
)  # fmt: skip


def fractions_of_peak(rounds: int) -> dict[str, float]:
    """FLOPs a second of inference and training, over those of the best large convolution."""
    contestants = dict(_largest())
    flops = {name: flops_of(work) for name, work in contestants.items()}
    for network, shape in NETWORKS:
        classifier, rows, labels = _on_noise(network, shape)
        key = f"{network} {'x'.join(map(str, shape[1:]))}"
        works: dict[str, Work] = {
            f"{key}, pool inference": functools.partial(classifier.predict, np.arange(64)),
            f"{key}, training": functools.partial(peers.train, classifier, rows, labels),
        }
        flops |= {name: flops_of(work) for name, work in works.items()}
        contestants |= works
    times = take_turns("peak", contestants, rounds=rounds)
    speed = {name: flops[name] / statistics.median(times[name]) / 1e9 for name in contestants}
    peak = max(value for name, value in speed.items() if name.startswith("convolution"))
    measured = {f"{name}, GFLOP/s": value for name, value in speed.items()}
    for name in speed:
        if name.startswith("small"):
            measured[f"{name}, of the convolutions' peak"] = speed[name] / peak
    return measured


def _largest() -> list[tuple[str, Work]]:
    """Large convolutions and a matrix product, as the machine likes them best."""
    works: list[tuple[str, Work]] = []
    for channels, size, batch in ((64, 32, 4), (128, 16, 8), (256, 16, 4)):
        convolution = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        convolution = convolution.to(memory_format=torch.channels_last_3d)
        inputs = torch.rand(batch, channels, size, size, size)
        inputs = inputs.contiguous(memory_format=torch.channels_last_3d)
        works.append((f"convolution {channels} x {size}^3", _frozen(convolution, inputs)))
    flat = nn.Conv2d(256, 256, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    inputs = torch.rand(16, 256, 32, 32).contiguous(memory_format=torch.channels_last)
    works.append(("convolution 256 x 32^2", _frozen(flat, inputs)))
    works.append(
        ("matrix product 2048", _frozen(nn.Linear(2048, 2048, bias=False), torch.rand(2048, 2048)))
    )
    return works


def _frozen(module: nn.Module, inputs: torch.Tensor) -> Work:
    @torch.no_grad()
    def work() -> None:
        module(inputs)

    return work


def _on_noise(
    network: str, shape: tuple[int, ...]
) -> tuple[NetworkClassifier, np.ndarray, np.ndarray]:
    """A classifier with 64 images of noise, and 48 rows with labels to train on."""
    images = np.random.default_rng(0).integers(0, 255, (64, *shape), dtype=np.uint8)
    config = ClassifierConfig(network=network, device="cpu")
    classifier = network_over(images, np.arange(64), 4, config)
    return classifier, np.arange(48), np.arange(48) % 4
