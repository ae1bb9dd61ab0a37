"""Acquisition functions that look at features, as agents with ``predict``.

Those of scikit-activeml by one adapter, ``skactiveml:Name``, some of them under the names by which
they are known; UHerding and BAIT, which it does not have, written out. All need the extra
``strategies`` (``pip install 'al-gym[strategies]'``), and an environment that tells more than the
observation, by its documented attribute ``run``:

- ``episode.pool``: ``indices`` (n_u,) int, which image each pool row is; ``labelled`` and
  ``labels``, (n_l,) each, the images labelled so far and their classes;
- ``embed(indices)``, (n, F): the features of images, from the classifier as it is now;
- ``last_layer()``, (M, F) and (M,): what turns features into logits, for strategies that ask the
  classifier about features of their own;
- ``predict_with_dropout(indices, n_draws, seed)``, (n_draws, n, M): softmax under dropout masks,
  for strategies that compare the members of an ensemble.
"""

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np
from scipy.special import log_softmax, softmax

from agents.names import hint, lookup
from agents.policy import ScoringPolicy
from agents.strategies import generator, margin

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
        self.rows = np.flatnonzero(~np.isin(pool.indices, pool.labelled))
        """(n,) int, the pool rows of the candidates."""
        self._candidates = pool.indices[self.rows]
        self.softmax = observation[self.rows]
        """(n, M), of the candidates."""

    @cached_property
    def features(self) -> np.ndarray:
        """(n_l + n, F) float32, of the labelled images and then of the candidates."""
        features: np.ndarray = self._run.embed(np.concatenate([self._labelled, self._candidates]))
        return features

    @cached_property
    def last_layer(self) -> tuple[np.ndarray, np.ndarray]:
        """Weight (M, F) and bias (M,) of the classifier's last layer."""
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

    def scores(self, observation: np.ndarray) -> np.ndarray:
        """Scores of (n_u, M), (n_u,) float32: the chosen above 0, best first, the rest 0.

        Args:
            observation: of the environment as it is now.

        Raises:
            ValueError: a strategy that needs dropout, and a network without.
        """
        from threadpoolctl import threadpool_limits  # comes with scikit-activeml

        seed = int(self.generator.integers(2**31))
        view = View(self._env, observation, seed)
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
        rows = made.query(view.features, labels, batch_size=n, **more)
        chosen = np.asarray(rows) - len(view.labels)
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
            weight, bias = view.last_layer
            return np.asarray(softmax(X @ weight.T + bias, axis=1))

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


# --- UHerding -------------------------------------------------------------------------------------

TEMPERATURES = np.logspace(-1, 1, 21)
"""From which UHerding chooses, 1 among them."""
BINS = 15
"""Of the expected calibration error (Guo et al., On calibration, ICML 2017)."""


def uherding(view: View, n: int, seed: int) -> np.ndarray:
    """UHerding: the greedy maximum of uncertainty coverage, sum_x U(x) max_x' k(x, x').

    x' are the labelled and the chosen, k is Gaussian on features of length 1, U is 1 minus the
    margin of the two most probable classes (Bae, Oliveira and Sutherland, Uncertainty Herding: one
    active learning method for all label budgets, ICLR 2025). As there, the temperature of the
    softmax is that of the best calibration on labelled images held out, and the radius of the
    kernel is the least distance between two labelled images, so that it shrinks as they become
    many. They are held out by cross-validation, as a start may have a few of each class.

    It takes the memory of an (n, n) matrix of float32 for n candidates.
    """
    length = np.linalg.norm(view.features, axis=1, keepdims=True)
    unit = view.features / np.maximum(length, 1e-12)
    labelled, candidates = unit[: len(view.labels)], unit[len(view.labels) :]
    temperature = calibrated_temperature(labelled, view.labels, seed)
    logits = np.log(np.maximum(view.softmax, 1e-12)) / temperature
    uncertainty = margin(softmax(logits, axis=1))

    apart = _squared_distances(labelled, labelled)
    positive = apart[apart > 1e-9]
    radius = positive.min() if len(positive) else 1.0  # squared
    covered = np.exp(-_squared_distances(candidates, labelled) / radius).max(axis=1, initial=0)
    kernel = np.exp(-_squared_distances(candidates, candidates) / radius)
    chosen: list[int] = []
    for _ in range(n):
        gains = uncertainty @ np.maximum(kernel - covered[:, None], 0)
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        covered = np.maximum(covered, kernel[:, chosen[-1]])
    return np.array(chosen)


def calibrated_temperature(features: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """The temperature of the least calibration error of held-out logistic regressions.

    Args:
        features: (n_l, F), of the labelled images.
        labels: (n_l,) int.
        seed: of the folds.

    Returns:
        One of ``TEMPERATURES``; 1 where a class has too few images to hold some out.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    classes, positions, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2 or counts.min() < 2:
        return 1.0
    folds = StratifiedKFold(min(5, int(counts.min())), shuffle=True, random_state=seed)
    log_odds = np.zeros((len(labels), len(classes)))
    for train, held_out in folds.split(features, labels):
        model = LogisticRegression(max_iter=1000).fit(features[train], labels[train])
        log_odds[held_out] = model.predict_log_proba(features[held_out])
    errors = [
        calibration_error(np.exp(log_softmax(log_odds / temperature, axis=1)), positions)
        for temperature in TEMPERATURES
    ]
    return float(TEMPERATURES[int(np.argmin(errors))])


def calibration_error(probabilities: np.ndarray, classes: np.ndarray) -> float:
    """Expected calibration error: |accuracy - confidence| of ``BINS`` bins, by their images."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == classes
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, right - confidence, BINS)
    return float(np.abs(gaps).sum() / len(classes))


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(len(a), len(b)), between rows of length 1."""
    return np.maximum(2 - 2 * a @ b.T, 0)


# --- BAIT -----------------------------------------------------------------------------------------

COMPONENTS = 128
"""Of the features, those of the largest singular values, that BAIT works on: a matrix of Fisher
information has as many rows as there are features times classes, and is multiplied every time."""
RIDGE = 1.0
"""lambda, the weight of the prior."""
OVERSAMPLING = 2
"""How many times n are chosen before the rest is dropped again."""


def bait(view: View, n: int, seed: int) -> np.ndarray:
    """BAIT: the batch that minimises tr(M^-1 F), the expected error of the last layer.

    F is the Fisher information of all images, M that of the labelled and the chosen (Ash et al.,
    Gone fishing: neural active learning with Fisher embeddings, NeurIPS 2021). Greedily 2 n are
    chosen, then n of them dropped; best first are those whose loss would cost the most. Features
    are those of ``COMPONENTS``, which is exact where no more of them are needed.
    """
    n_labelled = len(view.labels)
    weight, bias = view.last_layer
    known = softmax(view.features[:n_labelled] @ weight.T + bias, axis=1)
    factors = fisher_factors(_principal(view.features), np.concatenate([known, view.softmax]))
    fisher = _information(factors) / len(factors)
    before = _information(factors[:n_labelled]) / n_labelled
    share = n / (n_labelled + n)
    inverse = np.linalg.inv(RIDGE * np.eye(len(fisher)) + (1 - share) * before)
    candidates = factors[n_labelled:] * np.sqrt(share)

    chosen: list[int] = []
    for _ in range(min(OVERSAMPLING * n, len(candidates))):
        gains = trace_gains(candidates, inverse, fisher)
        gains[chosen] = -np.inf
        chosen.append(int(gains.argmax()))
        inverse = updated_inverse(inverse, candidates[chosen[-1]], 1)
    while len(chosen) > n:
        losses = -trace_gains(candidates[chosen], inverse, fisher, -1)
        dropped = chosen.pop(int(losses.argmin()))
        inverse = updated_inverse(inverse, candidates[dropped], -1)
    losses = -trace_gains(candidates[chosen], inverse, fisher, -1)
    return np.array(chosen)[np.argsort(-losses, kind="stable")]


def fisher_factors(features: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """V with V' V = I(x), the Fisher information of the last layer, for every image.

    Args:
        features: (N, F).
        probabilities: (N, M).

    Returns:
        (N, M, M F) float64: for each class the gradient of the loss, times the root of the class's
        probability.
    """
    n, n_classes = probabilities.shape
    p = probabilities.astype(float)
    errors = p[:, None, :] - np.eye(n_classes)  # of class m, at [:, m]
    gradients = errors[..., None] * features[:, None, None, :]
    return (np.sqrt(p)[..., None] * gradients.reshape(n, n_classes, -1)).astype(float)


def trace_gains(
    factors: np.ndarray, inverse: np.ndarray, fisher: np.ndarray, sign: int = 1
) -> np.ndarray:
    """tr(M^-1 F) - tr((M + sign V' V)^-1 F) of every image, (n,), by Woodbury's identity.

    Args:
        factors: (n, M, D).
        inverse: (D, D), M^-1.
        fisher: (D, D), F.
        sign: 1 to add an image, -1 to take it away.
    """
    middle = factors @ inverse
    inner = sign * np.eye(factors.shape[1]) + middle @ factors.transpose(0, 2, 1)
    outer = middle @ fisher @ middle.transpose(0, 2, 1)
    return np.asarray(np.trace(np.linalg.solve(inner, outer), axis1=1, axis2=2))


def updated_inverse(inverse: np.ndarray, factor: np.ndarray, sign: int) -> np.ndarray:
    """(M + sign V' V)^-1 from M^-1 (D, D) and V (M, D)."""
    middle = factor @ inverse
    inner = sign * np.eye(len(factor)) + middle @ factor.T
    return np.asarray(inverse - middle.T @ np.linalg.solve(inner, middle))


def _information(factors: np.ndarray) -> np.ndarray:
    """Sum of the Fisher information of images, (D, D)."""
    flat = factors.reshape(-1, factors.shape[-1])
    return flat.T @ flat


def _principal(features: np.ndarray) -> np.ndarray:
    """(N, at most COMPONENTS) float64: features turned so that the largest directions come first.

    Inner products stay what they are but for the directions left out.
    """
    left, values, _ = np.linalg.svd(features.astype(float), full_matrices=False)
    return (left * values)[:, :COMPONENTS]


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
    "uherding": uherding,
    "bait": bait,
}
"""Strategies by the names that the benchmarks use."""
