"""Names that people write: the nearest known one where theirs is not known."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


def hint(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'margin'?"``, or nothing if no known name is near."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {near[0]!r}?" if near else ""


def lookup(kind: str, name: str, table: Mapping[str, T]) -> T:
    """The entry of a table.

    Args:
        kind: what the table holds, for the message: "network", "reward".
        name: the key.
        table: everything that has a name.

    Raises:
        ValueError: there is no such key; the message has all of them and the nearest.
    """
    if name not in table:
        raise ValueError(f"unknown {kind} {name!r}, choose from {sorted(table)}{hint(name, table)}")
    return table[name]
