"""What the classes look like, for those who label: a line and a picture of each.

    PROJECT/guide/CLASS.txt    its first line stands below the name of the class
    PROJECT/guide/CLASS.png    a picture, or a row of examples, below that

Either may be missing, and so may the folder. The demo's is drawn here.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from al_gym import durable
from al_gym.annotate.originals import of_pixels, of_scan, plane
from al_gym.data import chestct, formats, phantoms

FOLDER = "guide"
SIZE = (320, 160)
"""Pixels across and down that a picture is made to fit."""
LONGEST = 200
"""Letters of a line."""
DEMO = {
    1: "In the lung, mostly compact.",
    5: "In the lung, mostly drawn out.",
    31: "Calcium at a vessel, mostly drawn out.",
    32: "Calcium near vessels, mostly a clump.",
}
"""Label code -> what generated lesions of the class are; they overlap in pairs, see ``chest``."""
DEMO_WINDOWS = {1: (-1000.0, 400.0), 5: (-1000.0, 400.0), 31: (-160.0, 700.0), 32: (-160.0, 700.0)}
"""Label code -> HU that are black and white in the demo's pictures."""
N_EXAMPLES = 4
"""In a picture of the demo."""
TYPICAL_MM = 16.0
"""Longer side of an example's box: those that are nearest to it are shown."""
AROUND = 0.8
"""From the middle of an example to its edge, of that side."""
DEMO_SCANS, DEMO_SEED = 8, 1
"""Generated scans that the examples are from, others than are labelled."""


@dataclass(frozen=True)
class Entry:
    """What is said of a class."""

    text: str
    """One line; empty: nothing."""
    picture: bytes
    """PNG; empty: none."""


def read(project: Path, class_names: tuple[str, ...]) -> tuple[Entry, ...]:
    """What the project's guide says of each class.

    Args:
        project: folder of the project.
        class_names: in the order of the classes.

    Raises:
        ValueError: a file that is for no class, a picture that cannot be read, or a text that is
            none; names the file.
    """
    folder = project / FOLDER
    files = {path.name: path for path in sorted(folder.iterdir())} if folder.is_dir() else {}
    for path in files.values():
        if path.stem not in class_names or path.suffix not in (".txt", ".png"):
            raise ValueError(
                f"{path} is for no class: the guide holds CLASS.txt and CLASS.png, of the classes "
                f"{', '.join(class_names)}"
            )
    return tuple(
        Entry(_text(files.get(f"{name}.txt")), _picture(files.get(f"{name}.png")))
        for name in class_names
    )


def _text(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline(LONGEST + 1)[:LONGEST].strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error}") from None


def _picture(path: Path | None) -> bytes:
    if path is None:
        return b""
    image = Image.fromarray(plane(of_pixels(formats.read(path, 3)), 0, 0))
    image.thumbnail(SIZE)
    return _png(image)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def write_demo(project: Path) -> None:
    """Draw the guide of the demo: a few of each class, from scans that are not asked about."""
    root = phantoms.folder("chestCT", DEMO_SCANS, DEMO_SEED)
    lesions, _ = chestct.read_annotations(root / chestct.ANNOTATIONS)
    volumes, _ = chestct.find_volumes(root, lesions)
    lesions.sort(key=lambda lesion: abs(float(lesion.extent[:2].max()) - TYPICAL_MM))
    with durable.writing(project / FOLDER) as unfinished:
        unfinished.mkdir()
        for label, (code, name) in enumerate(chestct.CLASSES.items()):
            chosen = [lesion for lesion in lesions if lesion.label == label][:N_EXAMPLES]
            row = [
                _example(volumes[lesion.series], lesion, DEMO_WINDOWS[code]) for lesion in chosen
            ]
            picture = np.concatenate(row, axis=1)
            (unfinished / f"{name}.txt").write_text(DEMO[code] + "\n", encoding="utf-8")
            (unfinished / f"{name}.png").write_bytes(_png(Image.fromarray(picture)))


def _example(volume: Path, lesion: chestct.Lesion, window: tuple[float, float]) -> np.ndarray:
    """The axial surroundings of a lesion, square, uint8."""
    scan = formats.read_scan([volume])
    assert scan is not None, volume  # generated
    original = of_scan(scan, lesion.centre, lesion.extent)
    _, y, x = original.centre
    pixels = plane(original, 0, original.centre[0], window)
    half = round(AROUND * float(lesion.extent[:2].max()) / original.spacing[1])
    around = np.pad(pixels, half)[y : y + 2 * half, x : x + 2 * half]
    side = SIZE[0] // N_EXAMPLES
    small = Image.fromarray(around).resize((side - 2, side - 2), Image.Resampling.BICUBIC)
    return np.pad(np.array(small), ((0, 0), (0, 2)))
