"""The learning curve as SVG, in the colours of the page."""

from collections.abc import Sequence

from al_gym.annotate.statistics import Point

WIDTH, HEIGHT = 320, 160
LEFT, RIGHT, TOP, BOTTOM = 34, 8, 10, 34
"""Margins."""


def svg(points: Sequence[Point]) -> str:
    """Macro F1 over labels, with its interval.

    Args:
        points: at least one, by labels.
    """
    n_test = points[-1].n_test
    most = max(1, *(point.n_labelled for point in points))  # 0: all were skipped
    across = [LEFT + (WIDTH - LEFT - RIGHT) * p.n_labelled / most for p in points]

    def down(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value)

    band = [f"{x:.1f},{down(p.high):.1f}" for x, p in zip(across, points, strict=True)]
    band += [f"{x:.1f},{down(p.low):.1f}" for x, p in zip(across[::-1], points[::-1], strict=True)]
    line = " ".join(f"{x:.1f},{down(p.macro_f1):.1f}" for x, p in zip(across, points, strict=True))
    last = points[-1]
    said = (
        f"Macro F1 on {n_test} test images: {last.macro_f1:.2f} with {last.n_labelled} labels, "
        f"95 % interval {last.low:.2f} to {last.high:.2f}"
    )
    ticks = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(v):.1f}" '
        f'y2="{down(v):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{down(v) + 4:.1f}" text-anchor="end">{v:g}</text>'
        for v in (0, 0.5, 1)
    )
    return (
        f'<svg class="learning" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}">'
        f'{ticks}<polygon points="{" ".join(band)}"/><polyline points="{line}"/>'
        f'<circle cx="{across[-1]:.1f}" cy="{down(last.macro_f1):.1f}" r="3"/>'
        f'<text x="{LEFT}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">0</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - BOTTOM + 14}" text-anchor="end">{most}</text>'
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 4}" text-anchor="middle">'
        f"labels learned from; macro F1 on {n_test} test images</text></svg>"
    )
