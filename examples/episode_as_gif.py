"""Watch an episode: the images of every query beside the learning curve, as a GIF.

    python examples/episode_as_gif.py --out episode.gif

Twelve images are annotated in a step, those between whose two best classes the classifier finds it
hardest to decide. Titles are the class, the prediction before it was known, red where that was
wrong, and what Eq. 3 pays.
"""

from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import tyro
from PIL import Image

import al_gym  # noqa: F401  (registers the ids)
from agents import strategies

SIZE = (672, 384)
"""Of the GIF, in pixels; the environment's pictures are larger."""
SECONDS = 1.2
"""Of a picture; the last one stays three times as long."""


@dataclass(frozen=True)
class Settings:
    """What to watch."""

    out: Path = Path("episode.gif")
    """The GIF."""
    budget: int = 98
    """Labels at the end; 26 are there at the start."""


def main(settings: Settings) -> int:
    """Play an episode and write its pictures; returns how many."""
    env = gym.make(
        "ActiveLearning-chestCT-v0", profile="embedded", query_size=12, budget=settings.budget,
        update_passes=5, render_mode="rgb_array_list",
    )  # fmt: skip
    strategy = strategies.make("ms", query_size=12, seed=0)
    observation, _ = env.reset(seed=0)
    terminated = False
    while not terminated:
        action, _ = strategy.predict(observation)
        observation, _, terminated, _, _ = env.step(action)
    pictures = [
        Image.fromarray(picture)
        .resize(SIZE, Image.Resampling.LANCZOS)
        .quantize(40, Image.Quantize.FASTOCTREE, dither=0)
        for picture in env.render()[1:]  # the first is of a start, without a query
    ]
    durations = [int(1000 * SECONDS)] * (len(pictures) - 1) + [int(3000 * SECONDS)]
    pictures[0].save(
        settings.out, save_all=True, append_images=pictures[1:], duration=durations, loop=0
    )
    print(f"{len(pictures)} pictures in {settings.out}")
    return len(pictures)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
