"""All faults of the slow suite, as a table: how often each came, and how often nothing was lost.

python -m tests.faults [matrix] [side by side] [workers] [ray] [annotation]
"""

import sys
import tempfile
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from tests.al_gym.annotate.projects import draw_scans
from tests.faults import harness


def main(chosen: list[str]) -> int:
    """Returns the exit status: 1 if one was not survived."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        roots = {
            "matrix": harness.draw(place / "images"),
            "annotation": draw_scans(place / "scans"),
        }
        bench = harness.Bench(harness.Victim(harness.build(place)), place, roots)
        table = pd.DataFrame("", index=list(harness.KINDS), columns=chosen)
        lost = 0
        for what in chosen:
            _, count = bench.uninterrupted(what)
            n = harness.POINTS[what] // len(harness.KINDS)
            for kind in tqdm(harness.KINDS, desc=what, unit="kind"):
                survived = sum(
                    survives(bench, what, kind, at) for at in harness.spread(kind, n, count)
                )
                table.loc[kind, what] = f"{survived} of {n}"
                lost += n - survived
        bench.victim.close()
    print(table.to_markdown())
    return 1 if lost else 0


def survives(bench: harness.Bench, what: str, kind: str, at: int) -> bool:
    """Whether the run at which a fault came ends, run again, as if there had been none."""
    try:
        bench.survives(what, kind, at)
    except AssertionError as error:
        tqdm.write(f"{what}, {kind} at call {at}: {error}")
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(harness.POINTS)))
