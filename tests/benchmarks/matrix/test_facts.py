"""Where the facts of a method come from, and that none of the program's methods is forgotten."""

import pytest

from benchmarks import methods
from benchmarks.matrix.facts import BUILT_IN, Facts, facts_of, order


def test_what_a_cell_records_counts_before_what_is_built_in():
    recorded = {"what": "mine", "compared": False, "has_curve": True, "control": "random"}
    recorded |= {"learns": True}  # which a report need not know
    assert facts_of("ms", {"facts": recorded}) == Facts("mine", compared=False, control="random")
    assert facts_of("ms", {}) == BUILT_IN["ms"]


@pytest.mark.parametrize(
    "name", ["drla-set-credit", "skactiveml:DropQuery", "my_package.module:Name", "p.safetensors"]
)
def test_an_unknown_method_has_plain_facts(name):
    assert facts_of(name, {}) == Facts(name)


def test_ours_come_first():
    assert sorted(["zeta", "ms", "alpha", "random"], key=order) == ["random", "ms", "alpha", "zeta"]


def test_every_method_has_facts():
    assert set(methods.METHODS) == set(BUILT_IN)
