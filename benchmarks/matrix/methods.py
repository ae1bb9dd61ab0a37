"""Every method in one table: what it is, how it is made, and how it may be compared.

A method sees the environment through the Gymnasium API and its documented attributes only. All of
them get the same budget, start and classifier. The table imports nothing heavy: what a method needs
is imported when it is made.
"""

import inspect
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from agents.diversity import PREFIX as SCIKIT_ACTIVEML
from al_gym.import_paths import imported, is_import_path
from al_gym.names import lookup
from benchmarks.matrix.facts import BUILT_IN, Facts
from benchmarks.matrix.provenance import digest

if TYPE_CHECKING:
    from agents.policy import Policy
    from benchmarks.matrix.players import Player

Env = gym.Env[Any, Any]
Record = dict[str, Any]
"""Settings of a method as its ``config.json`` keeps them, under "agent"."""


def _no_settings(env: Env, seed: int, changes: Record) -> Record:
    return {}


@dataclass(frozen=True)
class Method:
    """One way to choose samples."""

    name: str
    facts: Facts
    """What it is, and with what it may be compared."""
    make: Callable[[Env, int, Record], "Player"]
    """From the environment, the seed and the recorded settings to a player of the episode."""
    settings: Callable[[Env, int, Record], Record] = _no_settings
    """From the environment, the seed and changes asked for to the settings to be recorded. The seed
    matters to methods that learn alone: all others are asked once for all seeds."""
    learns: bool = False
    """Whether it learns on the episode that it is measured on, by settings that may be changed."""
    chooses: bool = True
    """Whether it can say which images to label next without learning on the episode, or knowing
    labels."""
    side_by_side: bool = True
    """Whether it can share a process with others: not what draws from global generators."""

    @property
    def folder(self) -> str:
        """What its folder is called: its name, made safe for a file system."""
        name = Path(self.name).stem if self.name.endswith(SAVED) else self.name
        return re.sub(r"[^\w.-]+", "-", name)


# --- how methods are made -------------------------------------------------------------------------


def _strategy(name: str) -> Method:
    def make(env: Env, seed: int, record: Record) -> "Player":
        from agents import strategies
        from benchmarks.matrix.players import Choosing

        query_size = env.get_wrapper_attr("query_size")
        return Choosing(env, strategies.make(name, query_size=query_size, seed=seed), seed)

    return Method(name, BUILT_IN[name], make)


def _by_features(name: str, facts: Facts | None = None) -> Method:
    def make(env: Env, seed: int, record: Record) -> "Player":
        from agents.diversity import FeatureStrategy
        from benchmarks.matrix.players import Choosing

        query_size = env.get_wrapper_attr("query_size")
        return Choosing(env, FeatureStrategy(name, env, query_size, seed), seed)

    return Method(name, facts or BUILT_IN[name], make)


def _online(name: str, **differences: Any) -> Method:
    """An agent that learns on the episode; the differences are those from the paper's settings."""

    def make(env: Env, seed: int, record: Record) -> "Player":
        from benchmarks.matrix.players import Online

        return Online(env, record)

    def settings(env: Env, seed: int, changes: Record) -> Record:
        from benchmarks.matrix.players import online_settings

        return online_settings({"seed": seed, **differences, **changes})

    return Method(name, BUILT_IN[name], make, settings, learns=True, chooses=False)


def _transferred(name: str, policy: str) -> Method:
    """A pretrained policy: the one that was trained without the images it is to be used on.

    For the families of images that the package's policies are trained on, or for their kinds, there
    is one each that has not seen them; for all others the one that has seen all of them.
    """

    def make(env: Env, seed: int, record: Record) -> "Player":
        from agents import load_pretrained
        from benchmarks.matrix.players import transferred

        return transferred(env, load_pretrained(record["policy"]), seed)

    def settings(env: Env, seed: int, changes: Record) -> Record:
        from agents.transfer import pretrained, pretrained_path
        from benchmarks.training.families import FAMILIES, family_of

        family = family_of(env.get_wrapper_attr("run").dataset.source)
        unseen = [] if family is None else [family, FAMILIES[family].kind]
        names = [*(f"{policy}-without-{each}" for each in unseen), policy]
        chosen = next((each for each in names if each in pretrained()), policy)
        return {"policy": chosen, "digest": digest(pretrained_path(chosen))}

    return Method(name, BUILT_IN[name], make, settings)


def _by_hand(name: str, weights: str) -> Method:
    """A coverage policy with weights set by hand: those of that name in the training's search."""

    def make(env: Env, seed: int, record: Record) -> "Player":
        from agents.transfer import CoveragePolicy
        from benchmarks.matrix.players import transferred
        from benchmarks.training import search

        policy = CoveragePolicy.of(getattr(search, weights), embeddings=True)
        return transferred(env, policy, seed)

    return Method(name, BUILT_IN[name], make)


def _hyper(name: str) -> Method:
    """The hyper-policy, with the threshold that was trained beside the policy with embeddings."""
    policy = _transferred(name, TRANSFERRED["drla-embed-v1"])

    def make(env: Env, seed: int, record: Record) -> "Player":
        from agents import load_pretrained
        from agents.hyper import HyperPolicy
        from benchmarks.matrix.players import transferred

        threshold = load_pretrained(record["policy"]).card["hyper_threshold"]
        return transferred(env, HyperPolicy(threshold), seed)

    return replace(policy, make=make)


def _sb3(algorithm: str) -> Method:
    def make(env: Env, seed: int, record: Record) -> "Player":
        from benchmarks.matrix.players import StableBaselines

        return StableBaselines(env, algorithm, seed)

    def settings(env: Env, seed: int, changes: Record) -> Record:
        from agents import sb3

        steps = env.get_wrapper_attr("max_steps")
        chosen = sb3.settings(algorithm, env.action_space.shape or (), steps)
        kinds = (str, int, float, dict)
        return {
            key: value if isinstance(value, kinds) else type(value).__name__
            for key, value in chosen.items()
        }

    name = f"sb3-{algorithm}"
    return Method(name, BUILT_IN[name], make, settings, chooses=False, side_by_side=False)


def _oracle(name: str) -> Method:
    def make(env: Env, seed: int, record: Record) -> "Player":
        from benchmarks.matrix.players import Choosing, Oracle

        return Choosing(env, Oracle(env), seed)

    return Method(name, BUILT_IN[name], make, chooses=False)


def _look_ahead(name: str) -> Method:
    def make(env: Env, seed: int, record: Record) -> "Player":
        from benchmarks.matrix.players import Choosing, LookAhead

        return Choosing(env, LookAhead(env, seed), seed)

    return Method(name, BUILT_IN[name], make, chooses=False)


def _fully_supervised(name: str) -> Method:
    def make(env: Env, seed: int, record: Record) -> "Player":
        from benchmarks.matrix.players import FullySupervised

        return FullySupervised(env, seed)

    def settings(env: Env, seed: int, changes: Record) -> Record:
        from benchmarks.matrix.provenance import retraining

        return {"retraining": retraining(env)}  # there are cells that were trained for less

    return Method(name, BUILT_IN[name], make, settings, chooses=False)


FIXED: Record = {"mask": True, "noise_space": "logit", "noise_scale": "spread"}
SET: Record = {**FIXED, "networks": "set"}
SOUND: Record = {
    "bounds": "penalty", "critics": 2, "noise_space": "logit", "noise_scale": "spread",
}  # fmt: skip
"""The fewest changes that keep Q within its bounds and the actor unsaturated over 665 steps."""
TRANSFERRED = {
    "drla-transfer": "drla-transfer-v0",
    "drla-embed": "drla-embed-v0",
    "drla-transfer-v1": "drla-transfer-v1",
    "drla-embed-v1": "drla-embed-v1",
}
"""Methods that were trained before and learn nothing on the episode, and their policies."""
METHODS = {
    method.name: method
    for method in (
        *map(_strategy, ("random", "lc", "ms", "en", "fusion")),
        _fully_supervised("all"),
        _online("drla"),
        _online("drla-fixed", **FIXED),
        _online("drla-sound", **SOUND),
        _online("drla-set", **SET),
        *itertools.starmap(_transferred, TRANSFERRED.items()),
        _hyper("hyper"),
        _by_hand("start-embed", "START"),
        _by_hand("uherding-plain", "UHERDING"),
        _online("frozen", gradient_steps=0),
        _online("frozen-sound", **SOUND, gradient_steps=0),
        _online("frozen-set", **SET, gradient_steps=0),
        _strategy("eq3"),
        _oracle("eq3-oracle"),
        _look_ahead("look-ahead"),
        *map(_by_features, ("badge", "coreset", "typiclust", "probcover", "bald")),
        *map(_by_features, ("uherding", "bait")),
        *map(_sb3, ("ddpg", "td3", "sac", "ppo", "a2c")),
    )
}
"""The built-in methods, by name."""


# --- doors for others' methods --------------------------------------------------------------------

SAVED = ".safetensors"
"""What the name of a saved policy ends in."""
KEYWORDS = ("env", "seed", "query_size")
"""What a method of one's own may ask for, by the names of its parameters."""


def find(name: str) -> Method:
    """A built-in method, a saved policy, or a method of one's own.

    Args:
        name: a key of ``METHODS``; the path of a policy, ``"policy.safetensors"``;
            ``"skactiveml:Name"`` for a pool strategy of scikit-activeml that fits classification;
            or an import path, ``"package.module:Name"``, of anything that returns an object with
            Stable-Baselines3's ``predict`` when it is called with those of ``env``, ``seed`` and
            ``query_size`` that its parameters name.

    Raises:
        ValueError: an unknown name.
    """
    if name.endswith(SAVED):
        return _saved(str(Path(name).resolve()))
    if name.startswith(SCIKIT_ACTIVEML):
        return _of_scikit_activeml(name)
    if is_import_path(name):
        return _of_ones_own(name)
    return lookup("method", name, METHODS)


def choosing(name: str) -> Method:
    """A method, see ``find``, that can choose from images whose labels nobody knows yet.

    Raises:
        ValueError: there is none, or it cannot.
    """
    method = find(name)
    if not method.chooses:
        others = " ".join(name for name, each in METHODS.items() if each.chooses)
        raise ValueError(
            f"{name} cannot choose from images whose labels nobody knows yet: it learns from the "
            f"answers, or must know them. Choose from {others}, or a trained policy of your own"
        )
    return method


def policy_of(name: str, env: Env, seed: int) -> tuple[Env, "Policy"]:
    """What chooses in an environment: the policy of a method, and the observations it wants.

    Args:
        name: of a method, see ``choosing``, which raises what this does.
        env: the environment.
        seed: of what is random in the method.

    Returns:
        The environment with those observations, and the policy.
    """
    from benchmarks.matrix.players import Choosing

    method = choosing(name)
    player = method.make(env, seed, method.settings(env, seed, {}))
    assert isinstance(player, Choosing)
    return player.env, player.agent


def chosen(names: Sequence[str]) -> tuple[Method, ...]:
    """The methods of names.

    Raises:
        ValueError: none given, an unknown name (with the nearest), one given twice, or two whose
            folders would have one name.
    """
    if not names:
        raise ValueError(f"no methods given, choose from {' '.join(METHODS)}")
    if len(set(names)) < len(names):
        raise ValueError(f"a method is named twice: {' '.join(names)}")
    methods = tuple(find(name) for name in names)
    folders = [method.folder for method in methods]
    if len(set(folders)) < len(folders):
        raise ValueError(f"two methods would share a folder ({' '.join(folders)}): use two --out")
    return methods


def _saved(path: str) -> Method:
    def make(env: Env, seed: int, record: Record) -> "Player":
        from agents import transfer
        from benchmarks.matrix.players import transferred

        return transferred(env, transfer.load(record["policy"]), seed)

    def settings(env: Env, seed: int, changes: Record) -> Record:
        from agents import transfer

        transfer.load(path)  # raises before any cell begins if it cannot be used
        return {"policy": path, "digest": digest(Path(path))}

    return Method(path, Facts(f"the policy saved in {Path(path).name}"), make, settings)


def _of_scikit_activeml(name: str) -> Method:
    def settings(env: Env, seed: int, changes: Record) -> Record:
        from agents import diversity

        diversity.find(name)  # raises before any cell begins if it cannot be used
        return {}

    what = f"{name.removeprefix(SCIKIT_ACTIVEML)} of scikit-activeml"
    return replace(_by_features(name, Facts(what)), settings=settings)


def _of_ones_own(path: str) -> Method:
    def make(env: Env, seed: int, record: Record) -> "Player":
        from benchmarks.matrix.players import Choosing

        given = {"env": env, "seed": seed, "query_size": env.get_wrapper_attr("query_size")}
        factory = imported(path)
        wanted = inspect.signature(factory).parameters
        agent = factory(**{name: given[name] for name in KEYWORDS if name in wanted})
        if not callable(getattr(agent, "predict", None)):
            raise ValueError(f"{path} makes {type(agent).__name__}, which has no predict()")
        return Choosing(env, agent, seed)

    def settings(env: Env, seed: int, changes: Record) -> Record:
        imported(path)  # raises before any cell begins if it is not there
        return {}

    return Method(path, Facts(path), make, settings)


def with_facts(record: Record, method: Method) -> Record:
    """A ``config.json`` that tells a report all that it must know of the method."""
    return {**record, "method": method.name, "facts": asdict(method.facts)}
