"""Your own images, one folder a class: read them, ask which to label next, and compare.

    python examples/own_images.py --root my_images

Without ``--root`` it draws some, of three brightnesses, so that there is something to see.
PNG, JPEG, TIFF, DICOM, NIfTI, MetaImage and NRRD are read; see ``docs/data.md`` for patients,
splits and label files.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import tyro
from PIL import Image

import al_gym  # noqa: F401  (registers the ids)
from agents import strategies


@dataclass(frozen=True)
class Settings:
    """Which images, and how many questions."""

    root: Path | None = None
    """Folder with a folder for each class; None: images are drawn."""
    query_size: int = 4
    """Images in a question."""
    questions: int = 5
    """Questions."""


def draw_images(root: Path, n: int = 240) -> None:
    """Write n images of 32 pixels; the classes differ in brightness, and overlap."""
    rng = np.random.default_rng(0)
    for i in range(n):
        name, brightness = (("dark", 60.0), ("middle", 110.0), ("light", 160.0))[i % 3]
        brightness += rng.normal(0, 20)
        pixels = np.clip(rng.normal(brightness, 45, (32, 32)), 0, 255).astype(np.uint8)
        path = root / name / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def main(settings: Settings) -> list[tuple[str, ...]]:
    """Print what is asked about and how F1 grows; returns the names of the files, by question."""
    with tempfile.TemporaryDirectory() as scratch:
        root = settings.root
        if root is None:
            root = Path(scratch)
            draw_images(root)
        env = gym.make(
            "ActiveLearning-Folder-v0", root=root, image_size=32, initial_size=6,
            query_size=settings.query_size, budget=6 + settings.questions * settings.query_size,
        )  # fmt: skip
        strategy = strategies.make("ms", query_size=settings.query_size, seed=0)
        observation, info = env.reset(seed=0)
        print(f"{observation.shape[0]} images may be asked about, {observation.shape[1]} classes")
        asked, terminated = [], False
        while not terminated:
            action, _ = strategy.predict(observation)
            observation, _, terminated, _, info = env.step(action)
            asked.append(env.get_wrapper_attr("selected_names"))
            print(f"{', '.join(asked[-1])}: macro F1 {info['macro_f1']:.3f}")
    return asked


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
