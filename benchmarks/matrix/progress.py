"""A bar over the steps of all cells of a run, by the lines of their curves: wherever they run."""

import threading
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from benchmarks.matrix.layout import CURVE

SECONDS = 0.5
"""Between two looks at the curves."""


class Progress:
    """The bar, while it is entered.

    It looks only at cells that have begun and not ended, so that a look costs as much in a run of
    ten thousand cells as in one of ten.

    Args:
        totals: cell -> lines of its whole curve.
        open_cells: those of them that are to run; the others are finished.
        title: of the bar.
    """

    def __init__(self, totals: dict[Path, int], open_cells: Iterable[Path], title: str) -> None:
        self._lines = {folder: lines_of(folder / CURVE) for folder in open_cells}
        finished = totals.keys() - self._lines.keys()
        self._n_cells, self._n_finished = len(totals), len(finished)
        done = sum(totals[folder] for folder in finished) + sum(self._lines.values())
        self._bar = tqdm(total=sum(totals.values()), initial=done, unit="step", desc=title)
        self._running: set[Path] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Progress":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._bar.close()

    def begin(self, *folders: Path) -> None:
        """Look at cells from now."""
        with self._lock:
            self._running.update(folders)

    def end(self, folder: Path, problem: str | None) -> None:
        """Look at a cell once more, and then no longer; ``problem`` is what stopped it."""
        with self._lock:
            self._running.discard(folder)
            self._count(folder)
            self._n_finished += problem is None

    def look(self) -> None:
        """Bring the bar up to what the curves of running cells hold."""
        with self._lock:
            for folder in self._running:
                self._count(folder)
            self._bar.set_postfix_str(f"{self._n_finished} of {self._n_cells} cells")

    def _count(self, folder: Path) -> None:
        lines = lines_of(folder / CURVE)
        self._bar.n += lines - self._lines[folder]
        self._lines[folder] = lines

    def _watch(self) -> None:
        over = False
        while not over:
            over = self._stop.wait(SECONDS)  # looks once more after the end
            self.look()


def lines_of(curve: Path) -> int:
    """Steps in a curve, its header apart; 0 if there is none."""
    try:
        return max(0, curve.read_bytes().count(b"\n") - 1)
    except FileNotFoundError:
        return 0
