"""The paper's two runs on a device: what they take, and what their arithmetic alone would.

Steps are timed at several labelled fractions and summed over the run (trapezoids). The floor is the
FLOPs of the same steps over the best speed of large convolutions, measured beside them on the same
device with the same settings (repeatable kernels, unless the classifier is told otherwise). The
images are phantoms of the paper's size; the weights are random, as they change no time.
"""

import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from al_gym import ActiveLearningEnv, ActiveLearningVectorEnv
from al_gym.classifiers.networks import network_over
from al_gym.data import phantoms
from benchmarks.matrix.environments import make_environment, make_vector_environment
from benchmarks.timing import peers

FRACTIONS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Labelled shares at which steps are timed; 0.10 where a run begins there."""
AMOUNT = {"chestCT": 560, "Retinopathy": 4800}
"""Phantom scans or photographs that hold the paper's number of images."""
N_WARM, N_TIMED = 5, 3
"""Steps before, so that kernels are chosen and graphs recorded, and steps that are timed."""


def measure(profile: str, device: str, whole: bool) -> dict[str, dict[str, float]]:
    """Tables of seconds: each data set and precision, and classifiers side by side.

    Args:
        profile: "paper" or "embedded", as of ``gymnasium.make``.
        device: as of ``ClassifierConfig``.
        whole: also run chestCT from beginning to end.
    """
    precisions = ("fp32", "tf32", "bf16") if torch.device(device).type == "cuda" else ("fp32",)
    tables = {}
    with tempfile.TemporaryDirectory() as scratch:
        for dataset, amount in AMOUNT.items():
            settings: dict[str, Any] = {"profile": profile, "device": device, "pretrain_passes": 1}
            if profile == "paper":
                root = Path(scratch) / dataset
                phantoms.GENERATORS[dataset](root, amount, 0)
                settings |= {"root": str(root), "weights": None}
            for precision in precisions:
                title = f"{dataset}, {profile}, {precision}"
                tables[title] = _run_of(dataset, settings | {"precision": precision})
            if dataset == "chestCT":
                tables[f"{dataset}, {profile}, side by side"] = _side_by_side(dataset, settings)
                if whole:
                    own = {k: v for k, v in settings.items() if k != "pretrain_passes"}
                    tables[f"{dataset}, {profile}, whole run"] = _whole_run(dataset, own)
    return tables


def make(dataset: str, settings: dict[str, Any]) -> ActiveLearningEnv:
    """The environment of a data set, without wrappers."""
    env = make_environment({"dataset": dataset, "settings": settings}).unwrapped
    assert isinstance(env, ActiveLearningEnv)
    return env


def step_of(env: ActiveLearningEnv | ActiveLearningVectorEnv) -> Callable[[], Any]:
    """A step with random scores, after a reset if the episode is over."""
    rng = np.random.default_rng(0)
    shape = env.action_space.shape

    def step() -> None:
        if isinstance(env, ActiveLearningEnv) and env.run.is_over:
            env.reset()
        env.step(rng.random(shape, np.float32))

    return step


def _run_of(dataset: str, settings: dict[str, Any]) -> dict[str, float]:
    """A run's projected seconds, its floor, and their ratio."""
    first = make(dataset, settings).run.config.initial_fraction
    fractions = (first, *(f for f in FRACTIONS if f > first))
    seconds, floors, peak = [], [], 0.0
    for fraction in tqdm(fractions, desc=f"{dataset} {settings['precision']}", unit="point"):
        env = make(dataset, settings | {"initial_fraction": fraction})
        env.reset(seed=0)
        seconds.append(seconds_of_a_step(env))
        peak = peak or _peak(env)
        floors.append(_flops_of_a_step(env) / peak)
    n_steps = (1 - first) * env.run.n_training / env.query_size
    run, floor = (
        n_steps * float(np.trapezoid(values, fractions)) / (fractions[-1] - fractions[0])
        for values in (seconds, floors)
    )
    return {
        "best convolution, TFLOP/s": peak / 1e12,
        **{f"a step at {f:.0%} labelled, s": s for f, s in zip(fractions, seconds, strict=True)},
        "the whole run, projected, s": run,
        "its floor, s": floor,
        "ratio to the floor": run / floor,
    }


def seconds_of_a_step(
    env: ActiveLearningEnv | ActiveLearningVectorEnv, n_warm: int = N_WARM, n_timed: int = N_TIMED
) -> float:
    """Median of some steps with random scores, after some that are not timed."""
    times = []
    step = step_of(env)
    for turn in range(n_warm + n_timed):
        before = time.perf_counter()
        step()  # ends with a transfer
        if turn >= n_warm:
            times.append(time.perf_counter() - before)
    return statistics.median(times)


def _flops_of_a_step(env: ActiveLearningEnv) -> float:
    """FLOPs of the last step, from its counters and those of one batch and one image."""
    step, images = env.run.counters, env.run.dataset.images[:16]
    rows = np.arange(16)
    # a recorded graph would show the counter nothing
    config = replace(env.run.classifier_config, cuda_graphs=False)
    plain = network_over(images, rows, env.run.dataset.n_classes, config)
    training = flops_of(lambda: peers.train(plain, rows, rows % 2))
    inference = flops_of(lambda: plain.predict(rows[:1]))
    return step.samples_trained * training / len(rows) + step.samples_forwarded * inference


def flops_of(work: Callable[[], Any]) -> float:
    """FLOPs of what PyTorch does in ``work``."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def _peak(env: ActiveLearningEnv) -> float:
    """FLOPs a second of the best of a few large convolutions, with the classifier's settings."""
    classifier = peers.network_of(env)
    best = 0.0
    volumes = env.run.dataset.images.ndim == 5
    for channels, size, batch in ((128, 16, 64), (256, 16, 64), (512, 8, 128)):
        if classifier.device.type == "cpu":
            batch //= 8
        kind, shape = (nn.Conv3d, [size] * 3) if volumes else (nn.Conv2d, [4 * size] * 2)
        layout = torch.channels_last_3d if volumes else torch.channels_last
        module = kind(channels, channels, 3, padding=1, bias=False).to(classifier.device)
        module = module.to(memory_format=layout)
        inputs = torch.rand(batch, channels, *shape, device=classifier.device)
        inputs = inputs.contiguous(memory_format=layout)
        if classifier.config.precision == "bf16":
            module, inputs = module.bfloat16(), inputs.bfloat16()
        with torch.inference_mode(), classifier.kernels():
            flops = flops_of(functools.partial(module, inputs))
            for _ in range(8):
                before = time.perf_counter()
                module(inputs)
                if classifier.device.type == "cuda":
                    torch.cuda.synchronize(classifier.device)
                best = max(best, flops / (time.perf_counter() - before))
    return best


def _side_by_side(dataset: str, settings: dict[str, Any]) -> dict[str, float]:
    """Steps a second of one classifier and of several on one device, a quarter labelled."""
    table = {}
    record = {"dataset": dataset, "settings": {"initial_fraction": 0.25, **settings}}
    for n in (1, 2, 4, 8):
        vector = make_vector_environment(record, n)
        vector.reset(seed=0)
        table[f"{n} at once, steps a second"] = n / seconds_of_a_step(vector)
        del vector
    table["8 over 1"] = table["8 at once, steps a second"] / table["1 at once, steps a second"]
    return table


def _whole_run(dataset: str, settings: dict[str, Any]) -> dict[str, float]:
    env = make(dataset, settings)
    before = time.perf_counter()
    observation, _ = env.reset(seed=0)
    pretrained = time.perf_counter()
    for _ in tqdm(range(env.max_steps), desc=f"{dataset}, the whole run", unit="step"):
        observation, *_, info = env.step(1 - observation.max(axis=1))
    after = time.perf_counter()
    return {
        "steps": env.max_steps,
        "reset, s": pretrained - before,
        "all steps, s": after - pretrained,
        "macro F1 at the end": info["macro_f1"],
    }
