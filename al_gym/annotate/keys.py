"""Which key does what on the page."""

from collections.abc import Mapping

from al_gym.names import hint

ACTIONS = {
    "unsure": ("u", "the next answer is unsure: a second person is asked, if there is one"),
    "skip": ("s", "skip: it cannot be told; under Review: leave it for later"),
    "undo": ("z", "undo the last answer, as often as you like"),
    "help": ("?", "this table"),
    "up": ("ArrowUp", "a slice towards head, back or left, of the plane with the bright frame"),
    "down": ("ArrowDown", "a slice towards feet, front or right"),
    "left": ("ArrowLeft", "the plane before"),
    "right": ("ArrowRight", "the next plane"),
    "window": ("w", "next window: lung, mediastinum, bone, your own"),
    "lung": ("l", "the lung window, of CT"),
    "mediastinum": ("m", "the mediastinum's"),
    "bone": ("o", "the bones'"),
    "invert": ("i", "black for white"),
    "zoom_in": ("+", "zoom in"),
    "zoom_out": ("-", "zoom out"),
    "reset": ("r", "back to the first view"),
    "box": ("b", "show or hide the lesion's box"),
    "cross": ("c", "show or hide the cross-hair"),
}
"""Name of an action -> its key, as browsers call it, and what it does."""
OF_CLASSES = "1234567890"
"""Keys of the first classes; further ones have none unless they are given some."""
SHOWN = {"ArrowUp": "↑", "ArrowDown": "↓", "ArrowLeft": "←", "ArrowRight": "→", " ": "space"}


def assigned(n_classes: int, changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """The key of every action, ``class1`` to ``classM`` among them.

    Args:
        n_classes: M.
        changes: keys that differ, by action.

    Raises:
        ValueError: an action that there is not, or one key for two.
    """
    keys = {f"class{i}": key for i, key in enumerate(OF_CLASSES[:n_classes], 1)}
    keys |= {name: key for name, (key, _) in ACTIONS.items()}
    known = [*(f"class{i}" for i in range(1, n_classes + 1)), *ACTIONS]
    for name, key in (changes or {}).items():
        if name not in known:
            raise ValueError(f"there is no action {name!r}{hint(name, known)}")
        if not key:
            raise ValueError(f"the action {name!r} needs a key")
        keys[name] = key
    by_key: dict[str, str] = {}
    for name, key in keys.items():
        other = by_key.setdefault(key, name)
        if other != name:
            raise ValueError(f"the key {key!r} is for {other} and for {name}: give one another")
    return keys


def table(keys: Mapping[str, str], class_names: tuple[str, ...]) -> list[tuple[str, str]]:
    """(key, what it does) of every action that has a key, for people."""
    what = {f"class{i}": name for i, name in enumerate(class_names, 1)}
    what |= {name: text for name, (_, text) in ACTIONS.items()}
    return [(SHOWN.get(key, key), what[name]) for name, key in keys.items()]
