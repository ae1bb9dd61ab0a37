"""An experiment of ten seeds, generated once."""

from pathlib import Path

import pytest

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
