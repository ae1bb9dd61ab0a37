"""The recorder of a cell: a line of its curve for the start and for every step."""

import csv
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np

from al_gym import durable
from al_gym.metrics import Evaluation
from benchmarks.matrix import predictions
from benchmarks.matrix.layout import COLUMNS, CURVE, HEALTH, PREDICTIONS, START


class Recorder(gym.Wrapper[Any, Any, Any, Any]):
    """Writes a line of ``curve.csv`` for the start and for every step of the first episode.

    Beside it ``predictions.bin`` gets what the classifier predicted of the test images.

    Args:
        env: the environment.
        config: the cell's.
        folder: of the cell.
        one_point: whether, instead of a curve, it is the evaluation of full supervision, ALL.

    Attributes:
        over: whether the episode has ended.
        health: asked at every step for the columns of ``layout.HEALTH``.
    """

    def __init__(
        self, env: gym.Env[Any, Any], config: dict[str, Any], folder: Path, one_point: bool
    ) -> None:
        super().__init__(env)
        self._folder, self._one_point = folder, one_point
        self._run = env.get_wrapper_attr("run")
        self._run.keep_predictions()
        truth = predictions.Truth.of(self._run.dataset)
        self._predictions = predictions.Writer(folder, truth)
        self._retrain_at = list(config["retrain_at"])
        self._lines: list[str] = []
        self._columns: Sequence[str] = COLUMNS
        self._start_is_checked = False
        self._since = time.perf_counter()
        self.over = False
        self.health: Callable[[], Mapping[str, float]] = dict

    @property
    def n_steps(self) -> int:
        """Steps recorded so far."""
        return max(0, len(self._lines) - 2)

    def state_dict(self) -> dict[str, Any]:
        """The curve so far."""
        return {"lines": self._lines, "retrain_at": self._retrain_at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Make the curve what it was."""
        self._lines, self._retrain_at = state["lines"], state["retrain_at"]
        self._columns = next(csv.reader(self._lines))  # an older program may have had fewer
        durable.write_text(self._folder / CURVE, "".join(self._lines))
        self._predictions.go_on(len(self._lines) - 1)

    def sync(self) -> None:
        """Wait until curve and predictions are on disk."""
        durable.sync(self._folder / CURVE)
        self._predictions.sync()

    def damage(self, n_rows: int) -> str:
        """What is to be said of predictions that should have ``n_rows``; empty: they have."""
        if self._predictions.has(n_rows):
            return ""
        return f"; {PREDICTIONS} is damaged, and what was predicted is no longer kept"

    def start_clock(self) -> None:
        """Count the method's seconds from now."""
        self._since = time.perf_counter()

    def reset(self, **settings: Any) -> tuple[Any, dict[str, Any]]:
        """Reset, and write the start if it is the first."""
        before = time.perf_counter()
        observation, info = self.env.reset(**settings)
        if not self._start_is_checked:
            _check_start(self._folder, self._run.start_fingerprint())
            self._start_is_checked = True
        if not self._lines:
            (self._folder / CURVE).write_text("")
            self._append(COLUMNS)
            self._predictions.begin()
            scores = self._run.episode.test
            if self._one_point:
                info, scores = self._fully_supervised()
                self.over = True
            self._predictions.append(scores.predicted)
            self._record(info, "", 0.0, time.perf_counter() - before)
        self.start_clock()
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step, and write what it brought."""
        before = time.perf_counter()
        observation, reward, terminated, truncated, info = self.env.step(action)
        if not self.over:
            self.over = terminated
            self._predictions.append(self._run.episode.test.predicted)
            self._record(info, reward, before - self._since, time.perf_counter() - before)
        self.start_clock()
        return observation, reward, terminated, truncated, info

    def _record(
        self, info: dict[str, Any], reward: Any, acquisition: float, training: float
    ) -> None:
        episode, dataset = self._run.episode, self._run.dataset
        rows = episode.pool.indices[episode.query.rows]
        counts = np.bincount(episode.pool.labels, minlength=dataset.n_classes)
        values = {
            **info,
            "step": len(self._lines) - 1,
            "reward": reward,
            "selected": " ".join(map(str, rows)),
            "class_counts": " ".join(map(str, info.get("class_counts", counts))),
            **self._retrained(info),
            "acquisition_seconds": f"{acquisition:.4f}",
            "training_seconds": f"{training:.4f}",
            "selected_names": json.dumps(dataset.names[rows].tolist()),
            **dict.fromkeys(HEALTH, ""),
            **{name: f"{n:.6g}" for name, n in self.health().items()},
        }
        self._append([values[name] for name in self._columns])

    def _retrained(self, info: dict[str, Any]) -> dict[str, Any]:
        """Macro and micro F1 of a classifier trained from scratch, where that is due."""
        names = "macro_f1", "micro_f1"
        due = [f for f in self._retrain_at if f <= info["labelled_fraction"] + 1e-9]
        if not due:
            return {f"retrained_{name}": "" for name in names}
        self._retrain_at = [f for f in self._retrain_at if f not in due]
        scores = info if self._one_point else asdict(self._run.evaluate_retrained())
        return {f"retrained_{name}": scores[name] for name in names}

    def _fully_supervised(self) -> tuple[dict[str, Any], Evaluation]:
        """The ``info`` of ALL, and its evaluation: of a classifier trained on everything."""
        pool = self._run.fully_labelled()
        scores = self._run.evaluate_retrained(pool)
        info = {
            "n_labelled": len(pool.labels),
            "labelled_fraction": 1.0,  # all there is has been asked about
            "macro_f1": scores.macro_f1,
            "micro_f1": scores.micro_f1,
            "class_counts": np.bincount(pool.labels, minlength=self._run.dataset.n_classes),
            "n_skipped": len(pool.skipped),
        }
        return info, scores

    def _append(self, values: Sequence[Any]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(values)
        with (self._folder / CURVE).open("a") as file:  # closed, so flushed, before the next step
            file.write(text.getvalue())
        self._lines.append(text.getvalue())


def _check_start(folder: Path, fingerprint: str) -> None:
    """All methods of a seed begin with the same labelled set and the same weights.

    Raises:
        RuntimeError: they do not.
    """
    for other in sorted(folder.parents[1].glob(f"*/{folder.name}/{START}")):
        if other.read_text() != fingerprint:
            raise RuntimeError(
                f"the start of {folder} is not that of {other.parent}: they cannot be compared. "
                "Were they run on the same machine, with the same versions? Use another --out"
            )
    durable.write_text(folder / START, fingerprint)
