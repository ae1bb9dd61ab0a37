"""Which device is meant, and what it is refused for, where there is none to try."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from al_gym import ActiveLearningEnv, ClassifierConfig
from al_gym.classifiers.devices import device_of, torch_seeded


@pytest.mark.parametrize("name", ["meta", "gpu", "xpu", ""])
def test_an_unknown_device_is_named(name):
    with pytest.raises(ValueError, match=f"'auto', 'cpu', .* or 'mps', not '{name}'"):
        device_of(ClassifierConfig(device=name))


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "mps"])
@pytest.mark.parametrize("trainable", ["all", "head"])
def test_a_device_that_is_not_there_is_said_at_construction(dataset, monkeypatch, name, trainable):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    config = ClassifierConfig(device=name, trainable=trainable)
    with pytest.raises(ValueError, match=f"device='{name}': PyTorch finds 0 {name[:3]}.*'cpu'"):
        ActiveLearningEnv(dataset, classifier_config=config)


def test_the_device_that_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of(ClassifierConfig()).type == "cuda"
    assert device_of(ClassifierConfig(device="cuda:1")) == torch.device("cuda:1")
    with pytest.raises(ValueError, match="finds 2 cuda devices"):
        device_of(ClassifierConfig(device="cuda:2"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(ClassifierConfig()) == torch.device("cpu")


def test_what_apples_gpus_cannot_do_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device_of(ClassifierConfig(device="mps")).type == "mps"
    for precision in ("bf16", "tf32"):
        with pytest.raises(ValueError, match=f"precision='{precision}' is not for device='mps'"):
            device_of(ClassifierConfig(device="mps", precision=precision))


def test_numbers_come_from_the_generator_and_the_callers_go_on():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    rng, seen = np.random.default_rng(5), []
    for _ in range(2):
        with torch_seeded(np.random.default_rng(5), torch.device("cpu")):
            seen.append(torch.rand(3))
    with torch_seeded(rng, torch.device("cpu"), needed=False):
        first = torch.rand(1)
    assert torch.equal(*seen) and torch.equal(torch.cat([first, torch.rand(1)]), expected)
    moved = np.random.default_rng(5)
    moved.integers(2**63)
    assert rng.bit_generator.state == moved.bit_generator.state


@pytest.mark.parametrize(
    ("capabilities", "emulated"),
    [
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}, True),
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": True}, False),
        ({"architecture": "aarch64"}, False),
        ({}, False),
    ],
)
def test_emulated_bf16_is_said(monkeypatch, capabilities, emulated):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    config = ClassifierConfig(device="cpu", precision="bf16")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        device_of(config)
        device_of(replace(config, precision="fp32"))
    assert [("emulates it" in str(one.message)) for one in said] == [True] * emulated
