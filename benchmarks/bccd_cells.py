"""Makes ``bccd_cells_48.npz``, the images of ``bloodcells-features``, from the public data set.

    git clone https://github.com/Shenggan/BCCD_Dataset
    python -m benchmarks.bccd_cells BCCD_Dataset --out data/bccd

Every annotated box of the photographs becomes an image: the square about its centre with the box's
longer side, the photograph's edge repeated where the square goes beyond it, resized to 48 pixels.
Boxes without an area are left out. The split is the data set's own, by photograph; the photograph's
number is kept beside each image, so that cells of one photograph stay on one side.

The results of this repository were measured on a file made in this way by an earlier program.
Classes, their order and the photographs are the same; how that program resized is not known, so
pixels may differ by a grey level or two. ``--compare`` says how far a file is from another.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from xml.etree import ElementTree

import numpy as np
import tyro
from PIL import Image
from tqdm import tqdm

SIZE = 48
CLASSES = ("WBC", "RBC", "Platelets")
"""White cells, red cells, platelets: classes 0, 1 and 2."""
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class CellsConfig:
    """Make the images of single blood cells from the photographs of BCCD_Dataset."""

    checkout: Annotated[Path, tyro.conf.Positional]
    """Folder of the data set, which holds BCCD/Annotations."""
    out: Path = Path()
    """Folder for bccd_cells_48.npz."""
    compare: Path | None = None
    """Another file of these cells, to be compared with the one made."""


def main(config: CellsConfig) -> None:
    """Write the file.

    Raises:
        FileNotFoundError: the checkout lacks a file that it should have.
        ValueError: an annotation cannot be read, or names another class.
    """
    root = config.checkout / "BCCD"
    arrays: dict[str, np.ndarray] = {}
    for split in SPLITS:
        names = (root / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
        cells = [cell for name in tqdm(names, desc=split) for cell in cells_of(root, name)]
        images, labels, photographs = zip(*cells, strict=True)
        arrays[f"{split}_images"] = np.stack(images)
        arrays[f"{split}_labels"] = np.array(labels, np.uint8)[:, None]
        arrays[f"{split}_image_ids"] = np.array(photographs, np.int32)
    config.out.mkdir(parents=True, exist_ok=True)
    path = config.out / f"bccd_cells_{SIZE}.npz"
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # numpy's stub
    sizes = ", ".join(f"{len(arrays[f'{split}_labels'])} {split}" for split in SPLITS)
    print(f"{path}: {sizes}")
    if config.compare is not None:
        with np.load(config.compare, allow_pickle=False) as other:
            print("\n".join(differences(arrays, other)))


def cells_of(root: Path, name: str) -> Iterator[tuple[np.ndarray, int, int]]:
    """The cells of a photograph, in the order of its annotation.

    Args:
        root: the folder with Annotations and JPEGImages.
        name: of the photograph, such as "BloodImage_00001".

    Yields:
        Image (48, 48, 3) uint8, class, and the number of the photograph.
    """
    path = root / "Annotations" / f"{name}.xml"
    photograph = np.asarray(Image.open(root / "JPEGImages" / f"{name}.jpg").convert("RGB"))
    try:
        text = path.read_text(encoding="utf-8")
        if "<!ENTITY" in text:  # a few lines of them can stand for gigabytes
            raise ValueError("it declares entities, which annotations have no need of")
        objects = ElementTree.fromstring(text).findall("object")
        boxes = [(each.findtext("name"), _corners(each)) for each in objects]
    except (ElementTree.ParseError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    for kind, (left, top, right, bottom) in boxes:
        if kind not in CLASSES:
            raise ValueError(f"{path}: a box of class {kind!r}, known are {' '.join(CLASSES)}")
        if right > left and bottom > top:
            image = square(photograph, left, top, right, bottom)
            yield image, CLASSES.index(kind), int(name.rpartition("_")[2])


def square(photograph: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """The square about a box, (48, 48, 3); beyond the photograph its edge is repeated.

    Args:
        photograph: (H, W, 3) uint8.
        left: first column of the box.
        top: first row.
        right: column behind the last.
        bottom: row behind the last.
    """
    side = max(right - left, bottom - top)
    first_row, first_column = (top + bottom - side) // 2, (left + right - side) // 2
    rows = np.clip(np.arange(first_row, first_row + side), 0, photograph.shape[0] - 1)
    columns = np.clip(np.arange(first_column, first_column + side), 0, photograph.shape[1] - 1)
    cell = Image.fromarray(photograph[rows[:, None], columns])
    return np.asarray(cell.resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def differences(ours: dict[str, np.ndarray], theirs: Any) -> list[str]:
    """How two files of cells differ, a line for each array."""
    lines = []
    for name, array in ours.items():
        if name not in theirs or theirs[name].shape != array.shape:
            there = theirs[name].shape if name in theirs else "missing"
            lines.append(f"{name}: {array.shape} here, {there} there")
        elif name.endswith("_images"):
            apart = np.abs(array.astype(int) - theirs[name]).mean()
            lines.append(f"{name}: {apart:.2f} grey levels apart on average")
        else:
            lines.append(f"{name}: {(array != theirs[name]).sum()} of {len(array)} differ")
    return lines


def _corners(annotated: ElementTree.Element) -> tuple[int, int, int, int]:
    left, top, right, bottom = (
        int(annotated.findtext(f"bndbox/{name}") or "") for name in ("xmin", "ymin", "xmax", "ymax")
    )
    return left, top, right, bottom


if __name__ == "__main__":
    try:
        main(tyro.cli(CellsConfig, description=__doc__))
    except (ValueError, OSError) as error:
        sys.exit(f"benchmarks.bccd_cells: {error}")
