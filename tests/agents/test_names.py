"""Names that people write, and the nearest that is known."""

import pytest

from agents.names import hint, lookup

TABLE = {"margin": 1, "entropy": 2}


def test_what_is_known_is_found():
    assert lookup("strategy", "margin", TABLE) == 1


def test_what_is_not_known_is_refused_with_all_that_is():
    with pytest.raises(ValueError) as error:
        lookup("strategy", "margins", TABLE)
    assert str(error.value) == (
        "unknown strategy 'margins', choose from ['entropy', 'margin']; did you mean 'margin'?"
    )


def test_nothing_near_gives_no_hint():
    assert hint("zzz", TABLE) == ""
    assert hint("entrpy", iter(TABLE)) == "; did you mean 'entropy'?"
