"""Pictures of an episode: the images just queried beside the learning curve, or a line of text."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from al_gym.data.dataset import UNKNOWN, ImageDataset
from al_gym.episode import Episode

MAX_IMAGES = 12
COLUMNS = 4


def line(episode: Episode, max_steps: int, n_training: int) -> str:
    """Step, labels, test F1 and the mean Eq. 3 of the last query, in one line."""
    n, n_skipped = len(episode.pool.labelled), len(episode.pool.skipped)
    text = f"step {episode.step}/{max_steps}  labelled {n} ({n / n_training:.1%})  "
    if n_skipped:
        text += f"skipped {n_skipped}  "
    text += f"macro F1 {_score(episode.test.macro_f1)}  micro F1 {_score(episode.test.micro_f1)}"
    if len(episode.query.rows):
        text += f"  Eq. 3 {episode.query.sample_rewards.mean():.3f}"
    return text


def sheet(episode: Episode, dataset: ImageDataset) -> np.ndarray:
    """Queried images with class, prediction and reward (at most 12), beside the learning curve.

    Returns:
        (640, 1120, 3) uint8, RGB.
    """
    canvas = FigureCanvasAgg(figure(episode, dataset))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def figure(episode: Episode, dataset: ImageDataset) -> Figure:
    """The sheet before it is drawn."""
    sheet = Figure(figsize=(11.2, 6.4), dpi=100, layout="constrained")
    left, right = sheet.subfigures(1, 2, width_ratios=(3, 2), squeeze=False)[0]
    rows = MAX_IMAGES // COLUMNS
    axes = left.subplots(rows, COLUMNS).ravel()
    for axis in axes:
        axis.axis("off")
    n_queried = len(episode.query.rows)
    for i in range(min(n_queried, MAX_IMAGES)):
        _draw_sample(axes[i], episode, dataset, i)
    if n_queried:
        n_skipped = np.count_nonzero(episode.query.labels == UNKNOWN)
        skipped = f", {n_skipped} skipped" if n_skipped else ""
        more = f", the first {MAX_IMAGES} shown" if n_queried > MAX_IMAGES else ""
        n_annotated = n_queried - n_skipped
        images = "image" if n_annotated == 1 else "images"
        left.suptitle(f"Step {episode.step}: {n_annotated} {images} annotated{skipped}{more}")
    else:
        left.suptitle("Nothing annotated yet")
    _draw_curve(right.subplots(), episode)
    return sheet


def as_picture(image: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, 3) to show of an image (C, [D,] H, W): a volume's central slice."""
    if image.ndim == 4:
        image = image[:, image.shape[1] // 2]
    return image.transpose(1, 2, 0) if len(image) == 3 else image[0]


def _draw_sample(axis: Axes, episode: Episode, dataset: ImageDataset, i: int) -> None:
    query = episode.query
    image = as_picture(dataset.images[episode.pool.indices[query.rows[i]]])
    axis.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    truth, predicted = query.labels[i], query.softmax[i].argmax()
    answer = "skipped" if truth == UNKNOWN else _short(dataset.class_names[truth])
    axis.set_title(
        f"{answer}\n"
        f"predicted {_short(dataset.class_names[predicted])}\n"
        f"reward {query.sample_rewards[i]:.2f}",
        fontsize=8,
        color="black" if truth == predicted else "firebrick",
    )


def _score(value: float) -> str:
    return "not measured" if math.isnan(value) else f"{value:.3f}"


def _short(name: str, length: int = 16) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _draw_curve(axis: Axes, episode: Episode) -> None:
    if math.isnan(episode.test.macro_f1):
        axis.axis("off")
        axis.set_title("F1 is not measured: there are no test images", fontsize=10)
        return
    n_labelled, macro, micro = zip(*episode.curve, strict=True)
    axis.plot(n_labelled, macro, "o-", color="black", markersize=3, label="macro F1")
    axis.plot(n_labelled, micro, "s--", color="0.55", markersize=3, label="micro F1")
    axis.set(xlabel="labelled samples", ylabel="F1 on the test set", ylim=(0, 1))
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")
