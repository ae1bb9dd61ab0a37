"""Acquisition functions that look at features, through scikit-activeml, as agents with ``predict``.

They need the extra ``strategies`` (``pip install 'al-gym[strategies]'``), and an environment that
tells more than the observation, by its documented attribute ``run``:

- ``episode.pool``: ``indices`` (n_u,) int, which image each pool row is; ``labelled`` and
  ``labels``, (n_l,) each, the images labelled so far and their classes;
- ``embed(indices)``, (n, F): the features of images, from the classifier as it is now;
- ``predict_with_dropout(indices, n_draws, seed)``, (n_draws, n, M): softmax under dropout masks,
  for BALD alone.
"""

from typing import Any

import gymnasium as gym
import numpy as np

from agents.names import hint
from agents.strategies import generator

NAMES = ("badge", "coreset", "typiclust", "probcover", "bald")
DRAWS = 10
"""Dropout masks that BALD compares."""


class ModernStrategy:
    """Chooses a batch by a strategy of scikit-activeml.

    - badge: k-means++ over gradient embeddings (Ash et al., ICLR 2020);
    - coreset: k-centre greedy over features (Sener and Savarese, ICLR 2018);
    - typiclust: the most typical sample of each uncovered cluster (Hacohen et al., ICML 2022);
    - probcover: greatest coverage of balls over features (Yehuda et al., NeurIPS 2022);
    - bald: mutual information of prediction and weights, by Monte Carlo dropout (Houlsby et al.,
      2011; Gal et al., ICML 2017).

    Args:
        name: one of ``NAMES``.
        env: the environment, with the attributes named above.
        query_size: samples annotated in a step.
        seed: of everything random in the strategy.

    Raises:
        ValueError: an unknown name.
        ImportError: scikit-activeml is not installed.
    """

    def __init__(self, name: str, env: gym.Env[Any, Any], query_size: int, seed: int) -> None:
        if name not in NAMES:
            raise ValueError(f"unknown strategy {name!r}, choose from {NAMES}{hint(name, NAMES)}")
        try:
            import skactiveml.pool  # an extra: imported where it is needed
        except ImportError as error:
            raise ImportError(
                f"the strategy {name!r} needs scikit-activeml: pip install 'al-gym[strategies]'"
            ) from error
        self._pool = skactiveml.pool
        self._name = name
        self._env = env
        self._query_size = query_size
        self.generator = generator(seed)

    def predict(
        self,
        observation: np.ndarray,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """Scores with Stable-Baselines3's signature: the chosen above 0, best first, the rest 0.

        Args:
            observation: (n_u, M), of the environment as it is now.
            state: passed through.
            episode_start: not used.
            deterministic: not used; what is random is seeded.

        Raises:
            ValueError: BALD, and a network without dropout.
        """
        run = self._env.get_wrapper_attr("run")
        pool = run.episode.pool
        indices, labelled, labels = pool.indices, pool.labelled, pool.labels
        rows = np.flatnonzero(~np.isin(indices, labelled))
        n = min(self._query_size, len(rows))
        seed = int(self.generator.integers(2**31))
        if self._name == "bald":
            chosen = self._most_disagreement(indices[rows], n, seed)
        else:
            features = run.embed(np.concatenate([labelled, indices[rows]]))
            known = np.concatenate([labels, np.full(len(rows), np.nan)])
            chosen = self._query(features, known, observation[rows], n, seed) - len(labelled)
        scores = np.zeros(len(indices), np.float32)
        scores[rows[chosen]] = np.linspace(1, 0.5, n)
        return scores, state

    def _query(
        self, features: np.ndarray, known: np.ndarray, softmax: np.ndarray, n: int, seed: int
    ) -> np.ndarray:
        """Rows of ``features`` (n_l + n, F) to label; ``known`` (n_l + n,) has NaN for those."""
        from threadpoolctl import threadpool_limits  # comes with scikit-activeml

        more: dict[str, Any] = {}
        if self._name == "badge":
            strategy = self._pool.Badge(random_state=seed)
            more = {"clf": _predictions(softmax), "fit_clf": False}
        elif self._name == "coreset":
            strategy = self._pool.CoreSet(random_state=seed)
        elif self._name == "typiclust":
            strategy = self._pool.TypiClust(random_state=seed)
        else:
            strategy = self._pool.ProbCover(random_state=seed, n_classes=softmax.shape[1])
        with threadpool_limits(1):  # the same clusters whatever the machine
            return np.asarray(strategy.query(features, known, batch_size=n, **more))

    def _most_disagreement(self, candidates: np.ndarray, n: int, seed: int) -> np.ndarray:
        """BALD: positions of the n candidates with the greatest mutual information."""
        draws = self._env.get_wrapper_attr("run").predict_with_dropout(candidates, DRAWS, seed)
        utilities = self._pool.batch_bald(draws.astype(float), batch_size=1, random_state=seed)[0]
        return np.argsort(-utilities, kind="stable")[:n]


def _predictions(softmax: np.ndarray) -> Any:
    """What BADGE takes for a fitted classifier: it predicts ``softmax`` for the candidates."""
    from skactiveml.base import SkactivemlClassifier

    class Predictions(SkactivemlClassifier):
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
            return self

        def predict_proba(self, X: Any) -> np.ndarray:
            return softmax

    return Predictions(classes=list(range(softmax.shape[1])))
