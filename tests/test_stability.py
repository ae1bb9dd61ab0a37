"""docs/stability.md names the formats that the code has."""

from pathlib import Path

from agents import transfer
from agents.ddpg import saving, sb3_names
from al_gym.data.phantoms import VERSIONS
from benchmarks.matrix import layout

ROOT = Path(__file__).resolve().parents[1]


def test_formats_are_those_of_the_code():
    text = (ROOT / "docs" / "stability.md").read_text()
    rows = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in lines_of_table(text)}
    assert (
        rows["checkpoint of an agent, `DDPG.save`"]
        == f"`{saving.FORMAT}`, version {saving.VERSION}"
    )
    buffer = rows["replay buffer, `DDPG.save_replay_buffer`"]
    assert buffer == f"`{sb3_names.REPLAY_BUFFER}`, version 1"
    assert rows["policy, `TransferPolicy.save`"] == f"`{transfer.FORMAT}`"
    assert rows["policy, `CoveragePolicy.save`"] == f"`{transfer.COVERAGE_FORMAT}`"
    assert rows["folder of a cell, `config.json` of `benchmarks.run`"] == str(layout.FORMAT)
    phantoms = ", ".join(f"{name} {number}" for name, number in VERSIONS.items())
    assert rows["generated images, in the cache"].startswith(f"{phantoms},")


def lines_of_table(text: str) -> list[str]:
    return [line for line in text.partition("## Files")[2].splitlines() if line.startswith("| ")]
