"""The examples of docs/clients.md are run where what they import is installed."""

import importlib.util
import re

import pytest

from tests.clients.table import PAGE

pytestmark = pytest.mark.slow

FIRST, *BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_an_example_does_what_it_says(block, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    needed = set(re.findall(r"^(?:import|from) (\w+)", block, re.MULTILINE))
    if "ray" in needed:
        pytest.importorskip("ray.rllib", exc_type=ImportError)
    for name in needed:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    exec(compile(FIRST + block, "docs/clients.md", "exec"), {"__name__": "page"})
