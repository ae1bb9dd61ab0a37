"""Acquisition functions that look at features, as agents with ``predict``.

Those of scikit-activeml by one adapter, ``skactiveml:Name``, some of them under the names by which
they are known; UHerding and BAIT (``agents/uherding.py``, ``agents/bait.py``). All need the extra
``strategies`` (``pip install 'al-gym[strategies]'``), and an environment that tells more than the
observation, by its documented attribute ``run``:

- ``episode.pool``: ``indices`` (n_u,) int, which image each pool row is; ``available`` (n_u,) bool,
  which rows may still be asked about; ``labelled`` and ``labels``, (n_l,) each, the images labelled
  so far and their classes;
- ``embed(indices)``, (n, F): the features of images, from the classifier as it is now;
- ``last_layer()``, (M, F) and (M,): what turns features into logits, for strategies that ask the
  classifier about features of their own;
- ``predict_with_dropout(indices, n_draws, seed)``, (n_draws, n, M): softmax under dropout masks,
  for strategies that compare the members of an ensemble.
"""

import inspect
from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

import gymnasium as gym
import numpy as np
from scipy.special import softmax

from agents import bait, uherding
from agents.names import hint, lookup
from agents.policy import ScoringPolicy, softmax_of
from agents.strategies import generator

PREFIX = "skactiveml:"
"""Before the name of a class of ``skactiveml.pool``."""
DRAWS = 10
"""Dropout masks that an ensemble is made of."""


class View:
    """What a strategy may look at before a query: n unlabelled candidates and n_l labelled images.

    Args:
        env: the environment, with the attributes named at the top of this file.
        observation: (n_u, M), the softmax of the pool.
        seed: of the dropout masks.
    """

    def __init__(self, env: gym.Env[Any, Any], observation: np.ndarray, seed: int) -> None:
        self._run = env.get_wrapper_attr("run")
        self._seed = seed
        pool = self._run.episode.pool
        self._labelled = pool.labelled
        self.labels = pool.labels
        """(n_l,) int, the classes of the labelled images."""
        self.rows = np.flatnonzero(pool.available)
        """(n,) int, the pool rows of the candidates."""
        self._candidates = pool.indices[self.rows]
        self.softmax = observation[self.rows]
        """(n, M), of the candidates."""

    @cached_property
    def features(self) -> np.ndarray:
        """(n_l + n, F) float32, of the labelled images and then of the candidates."""
        features: np.ndarray = self._run.embed(np.concatenate([self._labelled, self._candidates]))
        return features

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Softmax (m, M) of the classifier's last layer for features (m, F)."""
        weight, bias = self._last_layer
        return np.asarray(softmax(features @ weight.T + bias, axis=1))

    @cached_property
    def _last_layer(self) -> tuple[np.ndarray, np.ndarray]:
        weight, bias = self._run.last_layer()
        return weight, bias

    @cached_property
    def draws(self) -> np.ndarray:
        """(DRAWS, n, M), softmax of the candidates under dropout masks."""
        draws: np.ndarray = self._run.predict_with_dropout(self._candidates, DRAWS, self._seed)
        return draws


Chooser = Callable[[View, int, int], np.ndarray]
"""From a view, the number to choose and a seed to as many candidates by position, best first."""


class FeatureStrategy(ScoringPolicy):
    """Chooses the samples of a query together, by their features.

    Args:
        name: a key of ``STRATEGIES``, or "skactiveml:Name" for a pool strategy of scikit-activeml
            that fits classification.
        env: the environment, with the attributes named at the top of this file.
        query_size: samples annotated in a step.
        seed: of everything random in the strategy.

    Raises:
        ValueError: an unknown name, or a strategy that does not fit classification.
        ImportError: scikit-activeml is not installed.
    """

    def __init__(self, name: str, env: gym.Env[Any, Any], query_size: int, seed: int) -> None:
        self._choose = find(name)
        self._env = env
        self._query_size = query_size
        self.generator = generator(seed)

    def scores(self, observation: Any) -> np.ndarray:
        """Scores of (n_u, M), (n_u,) float32: the chosen above 0, best first, the rest 0.

        Args:
            observation: of the environment as it is now.

        Raises:
            ValueError: a strategy that needs dropout, and a network without.
        """
        from threadpoolctl import threadpool_limits  # comes with scikit-activeml

        seed = int(self.generator.integers(2**31))
        view = View(self._env, softmax_of(observation), seed)
        n = min(self._query_size, len(view.rows))
        with threadpool_limits(1):  # the same clusters whatever the machine
            chosen = self._choose(view, n, seed)
        scores = np.zeros(len(observation), np.float32)
        scores[view.rows[chosen]] = np.linspace(1, 0.5, n)
        return scores


def find(name: str) -> Chooser:
    """The strategy of a name; see ``FeatureStrategy``."""
    try:
        import skactiveml.pool  # noqa: F401  (an extra: imported where it is needed)
    except ImportError as error:
        raise ImportError(
            f"the strategy {name!r} needs scikit-activeml: pip install 'al-gym[strategies]'"
        ) from error
    if name.startswith(PREFIX):
        return from_scikit_activeml(name.removeprefix(PREFIX))
    return lookup("strategy", name, STRATEGIES)


# --- scikit-activeml ------------------------------------------------------------------------------

GIVEN = ("X", "y", "clf", "estimator", "ensemble", "discriminator")
"""Arguments of a strategy's ``query`` that the adapter has something for."""


def fitting_strategies() -> list[str]:
    """The pool strategies of scikit-activeml that fit classification, by their signatures."""
    import skactiveml.pool
    from skactiveml.base import SingleAnnotatorPoolQueryStrategy

    def fits(name: str) -> bool:
        strategy: Any = getattr(skactiveml.pool, name)
        query: Any = getattr(strategy, "query", None)
        return (
            inspect.isclass(strategy)
            and issubclass(strategy, SingleAnnotatorPoolQueryStrategy)
            and not inspect.isabstract(strategy)
            and _required(strategy.__init__) <= {"classes"}
            and _required(query) <= set(GIVEN)
            and "query_strategy" not in inspect.signature(strategy).parameters  # wraps another
        )

    return [name for name in sorted(skactiveml.pool.__all__) if fits(name)]


@cache  # it looks through all of them, and is asked before every query
def from_scikit_activeml(name: str) -> Chooser:
    """A strategy of scikit-activeml, given what its signature asks for.

    As the classifier it gets the environment's: its softmax of the candidates, and its last layer
    for all other features; where a strategy trains it on labels that it supposes, that is a
    logistic regression on the features. As the ensemble it gets the classifier under dropout masks,
    and as the discriminator between labelled and unlabelled a logistic regression. Strategies that
    work with classifiers of one kind alone say so when they are first asked.

    Raises:
        ValueError: there is none of that name, or it does not fit classification.
    """
    import skactiveml.pool

    fitting = fitting_strategies()
    if name not in fitting:
        raise ValueError(
            f"scikit-activeml has no pool strategy {name!r} that fits classification, choose from "
            f"{' '.join(fitting)}{hint(name, fitting)}"
        )
    strategy: Any = getattr(skactiveml.pool, name)
    settings, arguments = (inspect.signature(f).parameters for f in (strategy, strategy.query))

    def choose(view: View, n: int, seed: int) -> np.ndarray:
        n_classes = view.softmax.shape[1]
        known = {"classes": list(range(n_classes)), "n_classes": n_classes, "random_state": seed}
        made = strategy(**{key: value for key, value in known.items() if key in settings})
        trains = "ignore_partial_fit" in arguments  # on labels that it supposes
        more: dict[str, Any] = {key: trains for key in arguments if key.startswith("fit_")}
        if "clf" in arguments or "estimator" in arguments:
            more["clf" if "clf" in arguments else "estimator"] = _classifier(view)
        if "ensemble" in arguments:
            more["ensemble"] = [_member(draw) for draw in view.draws]
        if "discriminator" in arguments:
            more["discriminator"] = _logistic_regression([0, 1])
        labels = np.concatenate([view.labels, np.full(len(view.rows), np.nan)])
        try:
            rows = made.query(view.features, labels, batch_size=n, **more)
        except UnboundLocalError:  # TypiClust's, if no cluster is without a label: all look alike
            rows = []
        chosen = np.asarray(rows, dtype=int) - len(view.labels)
        # BatchBALD names samples twice once there is nothing left that its members disagree on
        others = np.random.default_rng(seed).permutation(len(view.rows))
        return np.array(list(dict.fromkeys([*chosen, *others]))[:n])

    return choose


def _required(function: Callable[..., Any]) -> set[str]:
    """The parameters of a method that have no default."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return {p.name for p in parameters if p.default is p.empty and p.kind != p.VAR_KEYWORD}


def _classifier(view: View) -> Any:
    """The environment's classifier as scikit-activeml's; a fit is one of its last layer."""
    from skactiveml.base import SkactivemlClassifier

    n_classes = view.softmax.shape[1]
    candidates = view.features[len(view.labels) :]

    class Classifier(SkactivemlClassifier):
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
            self._validate_data(X, y)
            self.last_layer_ = None
            if len(X):
                self.last_layer_ = _logistic_regression(self.classes).fit(X, y, sample_weight)
            return self

        def predict_proba(self, X: Any) -> np.ndarray:
            if self.last_layer_ is not None:
                return np.asarray(self.last_layer_.predict_proba(X))
            if np.array_equal(X, candidates):
                return view.softmax
            return view.predict(X)

    return Classifier(classes=list(range(n_classes))).fit([], [])


def _member(probabilities: np.ndarray) -> Any:
    """A member of an ensemble as a classifier of scikit-activeml: it predicts what it is given."""
    from skactiveml.base import SkactivemlClassifier

    class Member(SkactivemlClassifier):
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
            self._validate_data(X, y)
            return self

        def predict_proba(self, X: Any) -> np.ndarray:
            return probabilities

    return Member(classes=list(range(probabilities.shape[1]))).fit([], [])


def _logistic_regression(classes: list[int]) -> Any:
    from skactiveml.classifier import SklearnClassifier
    from sklearn.linear_model import LogisticRegression

    return SklearnClassifier(LogisticRegression(max_iter=1000), classes=classes)


def bald(view: View, n: int, seed: int) -> np.ndarray:
    """The n with the greatest mutual information of prediction and dropout mask, one by one.

    Houlsby et al., 2011; Gal et al., Deep Bayesian active learning with image data, ICML 2017.
    """
    from skactiveml.pool import batch_bald

    utilities = batch_bald(view.draws.astype(float), batch_size=1, random_state=seed)[0]
    return np.argsort(-utilities, kind="stable")[:n]


# --------------------------------------------------------------------------------------------------


def _uherding(view: View, n: int, seed: int) -> np.ndarray:
    return uherding.choose(view.features, view.labels, view.softmax, n, seed)


def _bait(view: View, n: int, seed: int) -> np.ndarray:
    known = view.predict(view.features[: len(view.labels)])
    probabilities = np.concatenate([known, view.softmax])
    return bait.choose(view.features, probabilities, len(view.labels), n)


def _by_class(name: str) -> Chooser:
    """Of scikit-activeml, imported when it is used."""
    return lambda view, n, seed: from_scikit_activeml(name)(view, n, seed)


STRATEGIES: dict[str, Chooser] = {
    # k-means++ over gradient embeddings (Ash et al., ICLR 2020)
    "badge": _by_class("Badge"),
    # k-centre greedy over features (Sener and Savarese, ICLR 2018)
    "coreset": _by_class("CoreSet"),
    # the most typical sample of each uncovered cluster (Hacohen et al., ICML 2022)
    "typiclust": _by_class("TypiClust"),
    # greatest coverage of balls over features (Yehuda et al., NeurIPS 2022)
    "probcover": _by_class("ProbCover"),
    "bald": bald,
    "uherding": _uherding,
    "bait": _bait,
}
"""Strategies by the names that the benchmarks use."""
