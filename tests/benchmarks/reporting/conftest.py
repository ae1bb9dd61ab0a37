"""An experiment of ten seeds, generated once."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.matrix.predictions import Truth
from benchmarks.reporting import results
from tests.benchmarks import made_runs


@pytest.fixture(scope="session")
def made_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine methods, ten seeds. Copy before changing."""
    return made_runs.write(tmp_path_factory.mktemp("runs") / "made")


@pytest.fixture(scope="session")
def experiment(made_folder: Path) -> results.Experiment:
    """What is in it."""
    (loaded,) = results.load([made_folder])
    return loaded


TRUTH = Truth(
    np.repeat([0, 1, 2], [60, 40, 20]).astype(np.uint8), (np.arange(120) % 40).astype(np.int32)
)
"""120 test images of 40 patients."""


@pytest.fixture(scope="session")
def predicting_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods, six seeds, whose cells have kept their predictions. Copy before changing."""
    gains = {"random": 0.0, "ms": 0.12, "lc": 0.02}
    folder = tmp_path_factory.mktemp("runs") / "predicting"
    return made_runs.write(folder, gains=gains, n_seeds=6, n_steps=8, truth=TRUTH)


@pytest.fixture(scope="session")
def predicting(predicting_folder: Path) -> results.Experiment:
    """What is in it."""
    (loaded,) = results.load([predicting_folder])
    return loaded
