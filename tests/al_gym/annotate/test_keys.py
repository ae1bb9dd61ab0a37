"""Which key does what."""

import pytest

from al_gym.annotate import keys


def test_classes_have_numbers_and_no_key_is_for_two():
    found = keys.assigned(11)
    assert found["class1"] == "1" and found["class9"] == "9" and found["class10"] == "0"
    assert "class11" not in found  # there are ten digits
    assert len(set(found.values())) == len(found)
    assert (found["unsure"], found["skip"], found["undo"], found["help"]) == ("u", "s", "z", "?")


def test_keys_can_be_set():
    found = keys.assigned(11, {"class11": "a", "skip": "x", "class1": "q"})
    assert (found["class11"], found["skip"], found["class1"]) == ("a", "x", "q")
    assert keys.assigned(2, {"skip": "z", "undo": "s"})["undo"] == "s"  # two may change places


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"skip": "1"}, "the key '1' is for class1 and for skip"),
        ({"class2": "u"}, "the key 'u' is for class2 and for unsure"),
        ({"skipp": "x"}, "no action 'skipp'.*skip"),
        ({"class3": "x"}, "no action 'class3'"),
        ({"undo": ""}, "'undo' needs a key"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        keys.assigned(2, changes)


def test_the_table_says_what_every_key_does():
    found = keys.table(keys.assigned(2), ("node", "vessel"))
    assert found[:2] == [("1", "node"), ("2", "vessel")]
    assert ("↑", "a slice towards head, back or left, of the plane with the bright frame") in found
    assert len(found) == 2 + len(keys.ACTIONS)
