"""Other people's programs drive the environment; what came of it is kept for docs/clients.md."""

import contextlib
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tests.clients.table import CLIENTS, Row

HERE = Path(__file__).parent
ROWS = pytest.StashKey[dict[tuple[str, str], Row]]()


def pytest_addoption(parser):
    parser.addoption(
        "--record", dest="record_clients", type=Path, help="json file for what the clients did"
    )


def pytest_configure(config):
    config.stash[ROWS] = {}


def pytest_collection_modifyitems(items):
    """What other people's programs warn of is their affair; what ours do is not."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.filterwarnings("default"))
            item.add_marker(pytest.mark.filterwarnings("error:::al_gym"))


@pytest.fixture(autouse=True)
def _installed(request):
    """Skip the tests of a client that is not there; they import it themselves, when they run."""
    client = CLIENTS.get(request.module.__name__.rpartition(".")[2])
    if client is not None:
        reason = f"{client.name} is not installed"
        pytest.importorskip(client.module, reason=reason, exc_type=ImportError)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    client = CLIENTS.get(item.path.stem)
    if client is not None and (report.when == "call" or not report.passed):
        key = (item.path.stem, item.originalname)
        verdict = report.outcome
        if report.skipped:
            verdict += ": " + str(report.longrepr[2]).removeprefix("Skipped: ")
        sentence = " ".join(item.obj.__doc__.split("\n\n")[0].split()).removesuffix(".")
        row = Row(client.name, installed(client.distribution), installed("gymnasium"),
                  sentence, verdict)  # fmt: skip
        before = item.config.stash[ROWS].get(key)
        if before is None or before.verdict == "passed":
            item.config.stash[ROWS][key] = row
    return report


def pytest_sessionfinish(session):
    path = session.config.getoption("record_clients", None)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [row._asdict() for row in session.config.stash[ROWS].values()]
        path.write_text(json.dumps(rows, indent=1))


def installed(distribution):
    """Its version, or nothing where there is no such distribution."""
    with contextlib.suppress(PackageNotFoundError, ValueError):
        return version(distribution)
    return ""
