"""What a report must know of a method: what it is, and with what it may be compared.

A method that is none of ours has its facts in its cells' ``config.json``, under "facts".
"""

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Facts:
    """What a report must know of a method."""

    what: str
    """What it is, in a line."""
    compared: bool = True
    """False for a bound, which knows the labels: it is shown, but neither tested nor ranked."""
    has_curve: bool = True
    """False for what is one point, such as a classifier trained on everything."""
    control: str | None = None
    """The method it must beat beside RANDOM and MS, such as an agent's untrained actor."""


REFERENCES = ("random", "ms")
"""The methods that every other is tested against. Savings in labels are those over the first."""

BUILT_IN = {
    "random": Facts("uniformly at random"),
    "lc": Facts("least confidence"),
    "ms": Facts("smallest margin"),
    "en": Facts("largest entropy"),
    "fusion": Facts("the tops of LC, MS and EN, thinned at random"),
    "all": Facts(
        "a new classifier on all training images, for as many gradient steps as an episode takes",
        has_curve=False,
    ),
    "drla": Facts("the paper's DDPG agent, learning online", control="frozen"),
    "drla-fixed": Facts("DRLA with a mask, and noise in proportion to the spread of the scores"),
    "drla-sound": Facts(
        "DRLA with what keeps its arithmetic sound: two critics, a penalty on the actor's logits, "
        "and noise on them in proportion to their spread",
        control="frozen-sound",
    ),
    "drla-set": Facts(
        "DRLA-FIXED with networks that see a set: one for all samples", control="frozen-set"
    ),
    "drla-transfer": Facts("a policy trained on many episodes of other data, applied unchanged"),
    "drla-embed": Facts(
        "a policy trained on many episodes of other data, applied unchanged; it sees embeddings too"
    ),
    "drla-transfer-v1": Facts(
        "DRLA-TRANSFER, trained anew for few labels, by what surrounds a sample"
    ),
    "drla-embed-v1": Facts(
        "DRLA-EMBED, trained anew for few labels: it knows where the labelled lie",
        control="start-embed",
    ),
    "hyper": Facts("coverage while labels are few, the smallest margin once they are many"),
    "start-embed": Facts(
        "control: DRLA-EMBED-V1 before its training, margin and UHerding at three radii, one each"
    ),
    "frozen": Facts("control: DRLA's untrained actor with the same noise, to tell what it learned"),
    "frozen-sound": Facts("control: DRLA-SOUND's untrained actor with the same noise"),
    "frozen-set": Facts("control: DRLA-SET's untrained actor with the same noise"),
    "eq3": Facts(
        "control: greedy on max p - sum p^2, what Eq. 3 pays if the classifier is calibrated"
    ),
    "eq3-oracle": Facts(
        "bound, not a method: greedy on the true Eq. 3, peeking at the labels", compared=False
    ),
    "look-ahead": Facts(
        "bound, not a method: greedy on the test score itself, peeking at labels and test set",
        compared=False,
    ),
    "badge": Facts("k-means++ over gradient embeddings"),
    "coreset": Facts("k-centre greedy over features"),
    "typiclust": Facts("typical samples of uncovered clusters"),
    "probcover": Facts("coverage of balls over features"),
    "bald": Facts("disagreement of dropout masks"),
    "uherding": Facts("uncertainty-weighted coverage of the pool by its features"),
    "uherding-plain": Facts(
        "UHERDING with the softmax as it is, not calibrated, and coverage of 1,024 samples at most"
    ),
    "bait": Facts("least expected error of the last layer, by Fisher information"),
    **{
        f"sb3-{name}": Facts(f"Stable-Baselines3's {name.upper()}")
        for name in ("ddpg", "td3", "sac", "ppo", "a2c")
    },
}
"""In the order in which reports list them."""


def facts_of(name: str, config: dict[str, Any]) -> Facts:
    """The facts of a method.

    Args:
        name: of the method; one that is not known, such as one that has left the program, has
            plain facts.
        config: a cell's ``config.json``; its "facts", if it has any, count before ours.
            Keys of it that are no field of ``Facts`` are passed over.
    """
    recorded = config.get("facts")
    if recorded is not None:
        names = [field.name for field in fields(Facts)]
        return Facts(**{key: value for key, value in recorded.items() if key in names})
    return BUILT_IN.get(name, Facts(name))


def order(name: str) -> tuple[int, str]:
    """Sorts methods as reports list them: ours as in ``BUILT_IN``, then all others by name."""
    names = list(BUILT_IN)
    return (names.index(name) if name in BUILT_IN else len(names), name)
