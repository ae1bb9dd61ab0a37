"""What is said of two settings that differ, and of a file that cannot be read."""

import json

import pytest

from benchmarks.matrix import layout


def test_a_config_is_read_or_named(tmp_path):
    path = tmp_path / layout.CONFIG
    path.write_text(json.dumps({"method": "ms"}))
    assert layout.read_config(path) == {"method": "ms"}
    path.write_text("")
    with pytest.raises(ValueError, match=rf"{path} cannot be read"):
        layout.read_config(path)


def test_settings_that_differ_are_named_by_their_path():
    there = {"threads": 1, "environment": {"query_size": 6, "budget": 0.4}}
    here = {"threads": 1, "environment": {"query_size": 7, "budget": 0.4}}
    words = layout.difference(there, here, layout.SHARED)
    assert words == "environment.query_size 6 there, 7 here"
    assert layout.difference(there, there, layout.SHARED) == ""
    assert layout.difference(there, here, ("threads",)) == ""


def test_five_differences_are_listed_and_the_rest_are_counted():
    there, here = ({"environment": {str(i): i + k for i in range(8)}} for k in (0, 1))
    words = layout.difference(there, here, layout.SHARED)
    assert words.count("there") == 5 and words.endswith("; and 3 more")
