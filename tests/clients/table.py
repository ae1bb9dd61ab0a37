"""The table of docs/clients.md, from what runs of tests/clients have kept.

python -m tests.clients.table runs/clients/*.json
"""

import datetime
import json
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).resolve().parents[2] / "docs" / "clients.md"


class Client(NamedTuple):
    """Somebody else's program."""

    name: str
    distribution: str
    module: str


CLIENTS = {
    "test_gymnasium": Client("Gymnasium", "gymnasium", "gymnasium"),
    "test_sb3": Client("Stable-Baselines3", "stable-baselines3", "stable_baselines3"),
    "test_sb3_contrib": Client("sb3-contrib", "sb3-contrib", "sb3_contrib"),
    "test_cleanrl": Client("CleanRL's loops", "", "stable_baselines3"),
    "test_torchrl": Client("TorchRL", "torchrl", "torchrl"),
    "test_tianshou": Client("Tianshou", "tianshou", "tianshou"),
    "test_rllib": Client("RLlib", "ray", "ray.rllib"),
    "test_minari": Client("Minari", "minari", "minari"),
    "test_d3rlpy": Client("d3rlpy", "d3rlpy", "d3rlpy"),
}
"""File of tests -> whose they are. The order is that of the table."""


class Row(NamedTuple):
    """What came of a test, all its parameters together."""

    client: str
    version: str
    gymnasium: str
    what: str
    verdict: str


def merged(runs: list[list[Row]]) -> list[Row]:
    """Rows of several runs, without tests skipped in one for want of a client that another has."""
    rows = list(dict.fromkeys(row for run in runs for row in run))
    there = {row.client for row in rows if not row.verdict.endswith("is not installed")}
    order = [client.name for client in CLIENTS.values()]
    return sorted(
        (r for r in rows if r.client not in there or not r.verdict.endswith("is not installed")),
        key=lambda row: (order.index(row.client), _numbers(row.version), _numbers(row.gymnasium)),
    )


def _numbers(version: str) -> list[int]:
    return [-int(number) for number in re.findall(r"\d+", version)]


def table(rows: list[Row]) -> str:
    """Markdown, and above it when and with what it was made."""
    made = f"{datetime.date.today()}, Python {platform.python_version()}, "
    made += f"PyTorch {version('torch').partition('+')[0]}"
    lines = ["| client | version | Gymnasium | what was run | verdict |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return f"Last run on {made}; `make clients` runs it anew.\n\n" + "\n".join(lines)


def main(*records: str) -> None:
    """Write the table between its two marks in the page."""
    runs = [[Row(**row) for row in json.loads(Path(path).read_text())] for path in records]
    text = PAGE.read_text()
    begin, end = "<!-- table: begin -->\n", "\n<!-- table: end -->"
    before, after = text.partition(begin)[0], text.partition(end)[2]
    rows = merged(runs)
    PAGE.write_text(before + begin + table(rows) + end + after)
    failed = [f"{row.client} {row.version}: {row.what}" for row in rows if row.verdict == "failed"]
    if failed:
        sys.exit("failed:\n" + "\n".join(failed))


if __name__ == "__main__":
    main(*sys.argv[1:])
