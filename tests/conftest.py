"""Shared fixtures: small data sets in the real file formats, and a cache of the session's own."""

import os
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

import envs_registry
from al_gym import ActiveLearningEnv, EnvConfig, ImageDataset
from al_gym.data import phantoms
from tests.samples import FAST, make_dataset

# a shell that starts tests in the background has Ctrl-C ignored, by them and all that they start
signal.signal(signal.SIGINT, signal.default_int_handler)
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Nothing of the user's is read or written: neither the cache nor the data."""
    kept = {name: os.environ.pop(name, None) for name in ("AL_GYM_CACHE", "AL_GYM_DATA")}
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers, which draw the phantoms once
    os.environ["AL_GYM_CACHE"] = str(folder / "cache")
    yield
    for name, value in kept.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture
def as_program(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int | str | None]:
    """Runs a module as a program, in this process, which has imported PyTorch.

    What it gives is what the program exits with: a status, or what it says of an error.
    """

    def exit_of(module: ModuleType, *words: str | Path) -> int | str | None:
        monkeypatch.setattr(sys, "argv", [str(module.__file__), *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(module.__file__), run_name="__main__")
        return ended.value.code

    return exit_of


@pytest.fixture
def one_thread():
    """Of PyTorch: their number decides the last bits of convolutions."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def chestct_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight phantom scans in the Tianchi layout. Copy before changing."""
    root = tmp_path_factory.mktemp("chestct") / "root"
    phantoms.write_chestct(root, 8, 7, progress=False)
    return root


@pytest.fixture
def few_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded profile of chestCT, with a third of its scans."""
    profile = envs_registry.DATASETS["chestCT"]["embedded"]
    monkeypatch.setitem(envs_registry.PHANTOMS, "chestCT", (20, 0))
    monkeypatch.setitem(profile, "n_train", 160)
    monkeypatch.setitem(profile, "n_test", 60)


@pytest.fixture(scope="session")
def retinopathy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty phantom photographs in the Kaggle layout. Copy before changing."""
    root = tmp_path_factory.mktemp("retinopathy") / "root"
    phantoms.write_retinopathy(root, 60, 7, progress=False)
    return root


@pytest.fixture(scope="session")
def small_photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred phantom photographs, enough for every grade on both sides."""
    root = tmp_path_factory.mktemp("photographs") / "root"
    phantoms.write_retinopathy(root, 200, 7, progress=False)
    return root


@pytest.fixture(scope="session")
def medmnist_root() -> Path:
    """The real RetinaMNIST."""
    root = SHARED_DATA / "medmnist"
    if not root.is_dir():
        pytest.skip(f"the real images are not at {root}")
    return root


@pytest.fixture(scope="session")
def dataset() -> ImageDataset:
    return make_dataset()


@pytest.fixture
def env(dataset: ImageDataset) -> ActiveLearningEnv:
    """A small environment, not yet reset."""
    return ActiveLearningEnv(dataset, EnvConfig(initial_fraction=0.1, query_size=4), FAST)
