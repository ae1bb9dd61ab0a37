"""Generated fundus photographs in the on-disk format of the Kaggle competition of 2015 (EyePACS).

A grade decides how many there are of each finding, and the ranges of neighbouring grades meet.
Lesions are far larger than life: they must survive at 64 pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from al_gym.data import cache, files

VERSION = 1  # part of every seed; raise it when the same seed would give other files

# --- how hard the grades are to tell apart --------------------------------------------------------

FINDINGS = {  # least and most of each in a photograph of grade 0, 1, 2, 3, 4
    "specks": ((0, 6),) * 5,  # dust and pigment: look like microaneurysms and mean nothing
    "microaneurysms": ((0, 0), (4, 16), (2, 14), (5, 20), (0, 8)),
    "haemorrhages": ((0, 0), (0, 0), (0, 6), (40, 120), (0, 6)),
    "exudates": ((0, 0), (0, 0), (0, 8), (0, 0), (0, 0)),
    "cotton-wool spots": ((0, 0), (0, 0), (0, 1), (2, 9), (0, 0)),
    "new vessels": ((0, 0), (0, 0), (0, 0), (0, 0), (2, 5)),
    "preretinal haemorrhages": ((0, 0), (0, 0), (0, 0), (0, 0), (1, 1)),
}

# --- the real data set ----------------------------------------------------------------------------

GRADE_COUNTS = (25810, 2443, 5292, 873, 708)  # photographs of grade 0 to 4 in the label file


@dataclass(frozen=True)
class FundusLook:
    """What photographs look like."""

    dot_contrast: tuple[float, float] = (0.4, 0.9)
    """Opacity of microaneurysms and specks, least and most."""
    lesion_scale: float = 2.0
    """Size of all findings but new vessels and preretinal haemorrhages."""
    vessel_opacity: tuple[int, int] = (90, 65)
    """Of veins and arteries, of 255."""
    disc_opacity: float = 0.4
    """Of the optic disc."""
    camera_spread: float = 0.2
    """Of colour and lighting between photographs."""
    noise: float = 0.03
    """Standard deviation of a pixel's, of the light."""
    counts: tuple[int, int, int, int, int] = GRADE_COUNTS
    """Of photographs of grade 0 to 4, in proportion; those of the real set."""


# --- files ----------------------------------------------------------------------------------------


def write_retinopathy(
    out: Path, images: int, seed: int, progress: bool = True, look: FundusLook = FundusLook()
) -> None:
    """Write fundus photographs with grades, in the layout of the Kaggle (EyePACS) competition.

    ``trainLabels.csv`` holds image and level (0 to 4), ``train/<patient>_<left|right>.jpeg`` the
    photographs, 320 pixels wide, about 18 kB each. Grades are in the proportions of EyePACS, or
    those of ``look``, to the nearest image; a patient's two are alike.

    Args:
        out: folder to fill, created if missing. The csv is written last.
        images: number of photographs, two a patient.
        seed: patient i is drawn from the seed and i, the grades from the seed and the number of
            patients.
        progress: show a progress bar.
        look: of the photographs.

    Raises:
        FileExistsError: ``out`` is not empty.
        ValueError: ``images`` is not a positive even number.
    """
    if images < 2 or images % 2:
        raise ValueError(f"images must be positive and even, two eyes a patient, not {images}")
    files.new_folder(out)
    (out / "train").mkdir()
    patients = images // 2
    rng = np.random.default_rng([VERSION, seed, patients])
    severity = 2 * rng.normal(size=(patients, 1)) + rng.normal(size=(patients, 2))
    ranks = severity.ravel().argsort().argsort().reshape(patients, 2)
    bounds = np.cumsum(look.counts) / sum(look.counts) * images
    grades = np.searchsorted(bounds.round(), ranks, side="right").tolist()
    names = (9 + rng.integers(1, 4, patients).cumsum()).tolist()

    def write_patient(index: int) -> list[tuple[str, int]]:
        eyes = _photographs(grades[index], look, np.random.default_rng([VERSION, seed, index]))
        eye_names = [f"{names[index]}_{side}" for side in ("left", "right")]
        for name, eye in zip(eye_names, eyes, strict=True):
            eye.save(out / "train" / f"{name}.jpeg", quality=90)
        return list(zip(eye_names, grades[index], strict=True))

    rows = cache.in_threads(write_patient, patients, "drawing fundus photographs", progress)
    files.write_table(out / "trainLabels.csv", "image,level", chain.from_iterable(rows))


# --- drawing --------------------------------------------------------------------------------------


def _photographs(grades: Sequence[int], look: FundusLook, rng: Generator) -> list[Image.Image]:
    """Left and right eye of a patient, from one camera."""
    colour = rng.normal((195, 100, 50), np.multiply((25, 22, 18), look.camera_spread))
    radius, height = int(rng.uniform(115, 158)), int(rng.uniform(214, 320))
    photographs = []
    for grade, flip in zip(grades, (-1, 1), strict=True):
        photograph = Image.new("RGB", (320, height))
        jitter_x, jitter_y = rng.integers(-4, 5, 2).tolist()
        corner = (160 - radius + jitter_x, height // 2 - radius + jitter_y)
        fundus = _draw_fundus(grade, radius, colour.astype(np.float32), look, rng)[:, ::flip]
        photograph.paste(Image.fromarray(np.ascontiguousarray(fundus)), corner)
        photographs.append(photograph)
    return photographs


def _white_noise(shape: tuple[int, ...], rng: Generator) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _draw_fundus(
    grade: int, radius: int, colour: np.ndarray, look: FundusLook, rng: Generator
) -> np.ndarray:
    """A right eye, (2 radius, 2 radius, 3) uint8. Coordinates are those of the unit circle."""
    x = np.linspace(-1, 1, 2 * radius, dtype=np.float32)
    y = x[:, None]
    r2 = x * x + y * y
    tilt = rng.normal(scale=0.15 * look.camera_spread, size=2).tolist()
    mottling = Image.fromarray(_white_noise((12, 12), rng))
    light = (1 - 0.35 * r2) * (1 + tilt[0] * x + tilt[1] * y)
    light *= 1 + 0.05 * np.asarray(mottling.resize(r2.shape, Image.Resampling.BICUBIC))
    macula = np.exp(-((x + 0.05) ** 2 + (y - 0.05) ** 2) / 0.025)
    light *= 1 - rng.uniform(0.15, 0.4) * macula
    light += look.noise * _white_noise(r2.shape, rng)
    rgb = light * colour[:, None, None]
    disc_x, disc_y = rng.normal((0.5, 0.02), 0.04).tolist()
    for size in (0.15, 0.07):  # the optic disc and its cup
        edge = np.sqrt(((x - disc_x) / 0.9) ** 2 + (y - disc_y) ** 2) - size
        _tint(rgb, look.disc_opacity * (0.5 - edge / 0.03).clip(0, 1), np.array([250, 215, 140]))

    blood, pale = (Image.new("L", (4 * radius, 4 * radius)) for _ in range(2))
    layers = ImageDraw.Draw(blood), ImageDraw.Draw(pale)
    _draw_vessels(layers[0], 2 * radius, (disc_x, disc_y), grade >= 3, look, rng)
    _draw_findings(grade, *layers, 2 * radius, look, rng)
    for layer, tint in ((blood, colour * (0.45, 0.12, 0.1)), (pale, np.array([250, 230, 160]))):
        smooth = layer.reduce(2).filter(ImageFilter.GaussianBlur(0.7))
        _tint(rgb, np.asarray(smooth, np.float32) / 255, tint)
    rgb *= ((1 - np.sqrt(r2)) * radius / 2).clip(0, 1)
    return rgb.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


def _tint(rgb: np.ndarray, opacity: np.ndarray, colour: np.ndarray) -> None:
    rgb += opacity * (colour.astype(np.float32)[:, None, None] - rgb)


def _draw_vessels(
    draw: ImageDraw.ImageDraw,
    scale: int,
    disc: tuple[float, float],
    beaded: bool,
    look: FundusLook,
    rng: Generator,
) -> None:
    """The arcades, a vein and an artery each, and their branches."""
    tips = []
    arcades = ((-110, -4.5, 1), (110, 4.5, 1), (-55, 2.5, 1), (55, -2.5, 1))
    for angle, curl, width in (*arcades, (165, 0, 0.5), (-10, 0, 0.5)):
        for calibre, opacity in zip((0.034, 0.024), look.vessel_opacity, strict=True):
            start = np.radians(rng.normal(angle, 7))
            tips.append((*disc, start, width * calibre, np.radians(curl), opacity))
    while tips:
        x, y, angle, width, curl, opacity = tips.pop()
        while width > 0.007 and x * x + y * y < 1:
            bead = 1 + 0.5 * np.sin(60 * (x + y)) if beaded else 1
            ends = [(x + 1) * scale, (y + 1) * scale]
            x, y = x + 0.05 * np.cos(angle), y + 0.05 * np.sin(angle)
            ends += [(x + 1) * scale, (y + 1) * scale]
            draw.line(ends, fill=opacity, width=max(1, round(width * scale * bead)))
            angle, curl, width = angle + curl + rng.normal(scale=0.08), curl * 0.97, width * 0.972
            if rng.random() < 0.1:
                turn = rng.choice([-1, 1]) * rng.uniform(0.5, 0.9)
                tips.append((x, y, angle + turn, width * 0.65, 0.0, opacity))


def _draw_findings(
    grade: int,
    blood: ImageDraw.ImageDraw,
    pale: ImageDraw.ImageDraw,
    scale: int,
    look: FundusLook,
    rng: Generator,
) -> None:
    """What the grade is made of, in the numbers of ``FINDINGS``."""

    def somewhere(reach: float = 0.88) -> np.ndarray:
        angle, r = rng.uniform(0, 2 * np.pi), reach * rng.random() ** 0.5
        return np.array([r * np.cos(angle), r * np.sin(angle)])

    def box(centre: np.ndarray, size: Any) -> list[float]:
        return np.concatenate([(centre + 1 - size) * scale, (centre + 1 + size) * scale]).tolist()

    def spot(layer: ImageDraw.ImageDraw, centre: np.ndarray, size: Any, contrast: float) -> None:
        layer.ellipse(box(centre, size * look.lesion_scale), fill=int(255 * contrast))

    counts = {
        name: rng.integers(*least_most[grade], endpoint=True)
        for name, least_most in FINDINGS.items()
    }
    for _ in range(counts["cotton-wool spots"]):
        centre, size = somewhere(), rng.uniform(0.06, 0.1, 2)
        for shrink, contrast in ((1, 0.2), (0.8, 0.35), (0.6, 0.5), (0.4, 0.6)):  # a soft edge
            spot(pale, centre, size * shrink, contrast)
    for _ in range(counts["exudates"]):
        for centre in somewhere(0.6) + rng.normal(scale=0.07, size=(rng.integers(6, 16), 2)):
            spot(pale, centre, rng.uniform(0.012, 0.03), 0.9)
    for _ in range(counts["haemorrhages"]):
        centre, contrast = somewhere(), rng.uniform(0.6, 0.95)
        for part in centre + rng.normal(scale=0.015, size=(3, 2)):  # an irregular blot
            spot(blood, part, rng.uniform(0.02, 0.05, 2), contrast)
    for _ in range(counts["microaneurysms"] + counts["specks"]):
        spot(blood, somewhere(), 0.03, rng.uniform(*look.dot_contrast))
    for _ in range(counts["new vessels"]):
        for centre in somewhere(0.7) + rng.normal(scale=0.04, size=(14, 2)).cumsum(0):
            start = rng.uniform(0, 360)
            blood.arc(box(centre, rng.uniform(0.03, 0.08, 2)), start, start + 200, 230, width=3)
    for _ in range(counts["preretinal haemorrhages"]):  # blood settles to a level
        centre = rng.uniform((-0.4, 0), (0.4, 0.3))
        blood.chord(box(centre, rng.uniform(0.5, 0.8)), 0, 180, fill=240)
