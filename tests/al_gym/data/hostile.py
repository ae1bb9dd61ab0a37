"""Damaged files by the thousand: read like a reference reader does it, or refused by name.

    python -m tests.al_gym.data.hostile --cases 5000

prints a table: what was tried of each format, read (of which the reference reader refuses some),
refused, and wrong. A case is wrong if it raises anything but the errors for files, gives other
values than the reference, takes more memory or time than it may, or ends the interpreter; its seed
and bytes are kept.
"""

import argparse
import csv
import gzip
import io
import json
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import safetensors.torch
import SimpleITK as sitk
import torch
from PIL import Image, ImageOps
from pydicom.pixels import pixel_array
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import RLELossless

from agents import checkpoint
from al_gym.data import chestct, formats, packed
from al_gym.errors import CheckpointError, DataError
from benchmarks.matrix import layout, presets
from benchmarks.reporting import results
from tests.dicom_samples import write_dicom

SECONDS = 10
"""Of a case."""
MEMORY = 5 << 29
"""2.5 GiB of addresses beside what the interpreter and its libraries have: three times the 512 MiB
that a small file may unpack to (``files.GROWN``), once each for SimpleITK's volume, the turned one
and the array; and a GiB for the rest."""
EXTREMES = (
    b"0", b"-1", b"1e999", b"nan", b"inf", b"4294967295", b"2147483648", b"99999999999999999999",
    b"", b"1,5", b"0x10", b"1e-320", b"007", b"--5",
)  # fmt: skip
WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
RNG = np.random.default_rng(0)
VALUES = RNG.integers(-1000, 1000, (5, 6, 7)).astype(np.int16)


@dataclass(frozen=True)
class Format:
    """How a kind of file is made, read by us, and read by others."""

    name: str
    """The file that is read."""
    write: Callable[[Path], None]
    """Writes a valid one, and what it needs beside it."""
    read: Callable[[Path], Any]
    reference: Callable[[Path], Any]
    """What ``read`` must give, or raises; a list of readings if there may be several."""
    is_text: bool = False
    target: str | None = None
    """The file that is damaged; None: the one that is read."""
    within: Callable[[bytes, Callable[[bytes], bytes]], bytes] | None = None
    """Damages what checksums or packing would hide, and packs it again; done in two cases of three.
    """


# --- samples and their reference readers ----------------------------------------------------------


def write_annotations(path: Path) -> None:
    rows = [
        [600000 + i, *RNG.integers(-90, 90, 3) / 4, *RNG.integers(4, 90, 3) / 4, label]
        for i, label in enumerate((1, 5, 31, 32, 1))
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([chestct.COLUMNS, *rows])


def lesions(path: Path) -> list[tuple[Any, ...]]:
    found, _ = chestct.read_annotations(path)
    return [(x.series, *x.centre, *x.extent, list(chestct.CLASSES)[x.label]) for x in found]


def lesions_by_csv(path: Path) -> list[list[tuple[Any, ...]]]:
    """One reading a delimiter, where there is one."""
    text = re.sub(r'\A"?sep=.?"?\s*\n', "", path.read_bytes().decode("utf-8-sig"))
    readings = []
    for delimiter in ",;\t":
        lines = csv.reader(
            io.StringIO(text, newline=None), delimiter=delimiter, skipinitialspace=True
        )
        rows = [[cell.strip() for cell in line] for line in lines]
        names, *rows = [row for row in rows if any(row)]
        names = [name.lower() for name in names]
        try:
            columns = [names.index(column.lower()) for column in chestct.COLUMNS]
            cells = list(dict.fromkeys(tuple(row[: len(names)]) for row in rows))
            readings.append(
                [
                    (
                        re.sub(r"\A(\d+)\.0+\Z", r"\1", row[columns[0]]),
                        *(float(row[column]) for column in columns[1:7]),
                        int(float(row[columns[7]])),
                    )
                    for row in cells
                ]
            )
        except (ValueError, IndexError):
            continue
    return readings


def write_mhd(path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(VALUES), str(path))


def by_simpleitk(path: Path) -> np.ndarray:
    """Where the voxels are there, as SimpleITK fills up what is lost."""
    image = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    return squeezed(formats.plain(sitk.GetArrayFromImage(image)[None]))


def by_bytes(path: Path) -> np.ndarray:
    content = path.with_suffix(".raw").read_bytes()
    return np.frombuffer(content, "<i2", VALUES.size).reshape(1, *VALUES.shape)


def squeezed(array: np.ndarray) -> np.ndarray:
    return array.reshape(len(array), *[n for n in array.shape[1:] if n > 1])


def write_nifti(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(VALUES, np.diag([-1.0, 2, 3, 1])), path)


def by_nibabel(path: Path) -> np.ndarray:
    image = nibabel.load(path)
    if len(image.shape) == 2:  # which lies as it is stored
        return formats.plain(image.get_fdata().T[None])
    values = nibabel.as_closest_canonical(image).get_fdata()
    with np.errstate(all="ignore"):
        return squeezed(formats.plain(np.squeeze(np.flip(values, (0, 1))).T[None]))


def write_ct(path: Path) -> None:
    write_dicom(path, VALUES[0], RescaleSlope="2", RescaleIntercept="-5")


def write_rle(path: Path) -> None:
    write_dicom(path, RNG.integers(0, 999, (40, 48), np.uint16))
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)


def by_pydicom(path: Path) -> np.ndarray:
    dataset = pydicom.dcmread(path)
    pixels = pixel_array(dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        high = 2**dataset.BitsStored - 1
        pixels = (-1 if dataset.PixelRepresentation else high) - pixels.astype(np.int64)
    if dataset.SamplesPerPixel == 1:
        return apply_modality_lut(pixels, dataset)[None]
    return np.moveaxis(pixels, -1, 0)


def write_photograph(path: Path) -> None:
    Image.fromarray(RNG.integers(0, 256, (12, 10, 3), np.uint8)).save(path)


def by_pillow(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
        deep = image.mode.startswith(("I", "F"))
        grey = image.mode in ("1", "L", "LA")
        array = np.asarray(image if deep else image.convert("L" if grey else "RGB"))
    return np.moveaxis(array, -1, 0) if array.ndim == 3 else array[None]


def write_npz(path: Path) -> None:
    images = RNG.integers(0, 256, (6, 5, 4), np.uint8)
    np.savez_compressed(path, images=images, labels=np.arange(6) % 2, groups=np.arange(6))


def by_numpy(path: Path) -> list[np.ndarray]:
    with np.load(path) as file:
        images = file["images"]
        images = images[:, None] if images.ndim == 3 else images
        groups = file["groups"] if "groups" in file.files else np.arange(len(images))
        return [images, file["labels"].ravel(), groups]


def arrays(path: Path) -> list[np.ndarray]:
    images, rows, _, _ = packed.read(path)
    return [images, rows.labels, rows.groups]


def write_checkpoint(path: Path) -> None:
    checkpoint.write(path, {"a": torch.arange(6.0), "b": [np.arange(3), {"c": 7, "d": "text"}]})


def leaves(node: Any) -> list[Any]:
    """Those of a tree, in order."""
    if isinstance(node, dict):
        return [leaf for key, value in node.items() for leaf in (key, *leaves(value))]
    if isinstance(node, list):
        return [leaf for value in node for leaf in leaves(value)]
    return [np.asarray(node) if isinstance(node, torch.Tensor) else node]


def by_safetensors(path: Path) -> list[Any]:
    """The leaves, with tensors by the names that the header has for them."""
    content = path.read_bytes()
    tensors = safetensors.torch.load(content)
    size = int.from_bytes(content[:8], "little")
    tree = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["tree"])

    def resolved(node: Any) -> Any:
        if isinstance(node, list):
            return [resolved(value) for value in node]
        if isinstance(node, dict):
            for mark in (checkpoint.TENSOR, checkpoint.ARRAY):
                if mark in node:
                    return tensors[node[mark]]
            if checkpoint.ITEMS in node:
                return {key: resolved(value) for key, value in node[checkpoint.ITEMS]}
            return {key: resolved(value) for key, value in node.items()}
        return node

    return leaves(resolved(tree))


def write_config(path: Path) -> None:
    config = {
        "method": "ms", "seed": 3, "threads": 1, "versions": {"python": "3.12"},
        "environment": {"query_size": 10, "budget": 0.43}, "retrain_at": [0.1, 1.0],
    }  # fmt: skip
    path.write_text(json.dumps(config, indent=2))


def write_curve(path: Path) -> None:
    lines = [
        [str(step), str(10 + step), "0.5", f"{0.4 + step / 30:.6f}", "0.5", "0.1" if step else "",
         "3 4", "5 6", "", "", "0.01", "0.2", "0", json.dumps(["a, b.png", "c"]),
         *[""] * len(layout.HEALTH)]
        for step in range(6)
    ]  # fmt: skip
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([layout.COLUMNS, *lines])


def curve(path: Path) -> list[list[Any]]:
    frame = results.read_curve(path)
    return [list(frame.columns), *[[shown(cell) for cell in row] for row in frame.to_numpy()]]


def curve_by_csv(path: Path) -> list[list[Any]]:
    text = path.read_bytes().decode()
    names, *lines = csv.reader(io.StringIO(text[: text.rfind("\n") + 1])) if "\n" in text else [
        list(layout.COLUMNS)
    ]  # fmt: skip
    return [names, *[[shown(cell) for cell in line] for line in lines]]


def shown(cell: Any) -> Any:
    """A number to ten digits, a text, or "" for nothing."""
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return cell
    return "" if np.isnan(number) else f"{number:.10g}"


def write_preset(path: Path) -> None:
    path.write_text(
        'dataset = "chestCT"\nmethods = ["random", "ms"]\ntitle = "one"\n\n'
        "[settings]\nquery_size = 10\nbudget = 0.43\nseeds = [1, 2, 3]\n"
    )


def preset(path: Path) -> list[Any]:
    found = presets.read(path)
    return [found.dataset, found.settings, list(found.methods), found.title]


def preset_by_tomllib(path: Path) -> list[Any]:
    content = presets.tomllib.loads(path.read_text(encoding="utf-8"))
    methods = content.get("methods", list(presets.PAPER_METHODS))
    return [content["dataset"], content.get("settings", {}), methods, content.get("title")]


def within_gzip(content: bytes, damage: Callable[[bytes], bytes]) -> bytes:
    return gzip.compress(damage(gzip.decompress(content)))


def within_png(content: bytes, damage: Callable[[bytes], bytes]) -> bytes:
    """The checksums are right, and the header or the unpacked pixels are not."""
    chunks, at = [], 8
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    (ihdr, size), (idat, data), *rest = chunks
    joined = damage(size + zlib.decompress(data))
    changed = [(ihdr, joined[:13]), (idat, zlib.compress(joined[13:])), *rest]
    return content[:8] + b"".join(
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in changed
    )


def within_npz(content: bytes, damage: Callable[[bytes], bytes]) -> bytes:
    """One array, in an archive that is right."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        names = old.namelist()
        one = names[len(damage(bytes(99))) % len(names)]
        for name in names:
            new.writestr(name, damage(old.read(name)) if name == one else old.read(name))
    return stream.getvalue()


def within_header(content: bytes, damage: Callable[[bytes], bytes]) -> bytes:
    """Of safetensors, whose length is right."""
    size = 8 + int.from_bytes(content[:8], "little")
    header = damage(content[8:size])
    return len(header).to_bytes(8, "little") + header + content[size:]


def within_data_set(content: bytes, damage: Callable[[bytes], bytes]) -> bytes:
    """Of DICOM, behind what says that it is that."""
    at = 144 + int.from_bytes(content[140:144], "little")
    return content[:at] + damage(content[at:])


def image(path: Path) -> np.ndarray:
    formats.header(path)
    return formats.read(path, 3)


FORMATS = {
    "annotation csv": Format("a.csv", write_annotations, lesions, lesions_by_csv, is_text=True),
    ".mhd": Format("a.mhd", write_mhd, image, by_simpleitk, is_text=True),
    ".raw": Format("a.mhd", write_mhd, image, by_bytes, target="a.raw"),
    "NIfTI": Format("a.nii", write_nifti, image, by_nibabel),
    "NIfTI, gzip": Format("a.nii.gz", write_nifti, image, by_nibabel, within=within_gzip),
    "NRRD": Format("a.nrrd", write_mhd, image, by_simpleitk),
    "DICOM": Format("a.dcm", write_ct, image, by_pydicom, within=within_data_set),
    "DICOM, RLE": Format("a.dcm", write_rle, image, by_pydicom, within=within_data_set),
    "JPEG": Format("a.jpg", write_photograph, image, by_pillow),
    "PNG": Format("a.png", write_photograph, image, by_pillow, within=within_png),
    "TIFF": Format("a.tif", write_photograph, image, by_pillow),
    "npz": Format("a.npz", write_npz, arrays, by_numpy, within=within_npz),
    "safetensors": Format(
        "a.safetensors", write_checkpoint, lambda path: leaves(checkpoint.read(path)),
        by_safetensors, within=within_header,
    ),
    "config.json": Format(
        "config.json", write_config, layout.read_config,
        lambda path: json.loads(path.read_text(encoding="utf-8")), is_text=True,
    ),
    "curve.csv": Format("curve.csv", write_curve, curve, curve_by_csv, is_text=True),
    "preset": Format("a.toml", write_preset, preset, preset_by_tomllib, is_text=True),
}  # fmt: skip


# --- damage ---------------------------------------------------------------------------------------


def damaged(content: bytes, is_text: bool, rng: np.random.Generator) -> bytes:
    """One to three things done to a file's bytes."""
    for _ in range(rng.integers(1, 4)):
        if not is_text or rng.random() < 0.4:
            changes = BYTES if rng.random() < 0.3 else IN_PLACE
        else:
            changes = TEXTS
        content = changes[rng.integers(len(changes))](content, rng)
    return content


def place(content: bytes, rng: np.random.Generator) -> int:
    """Half of them where headers are."""
    n = len(content) if rng.random() < 0.5 else min(len(content), 400)
    return int(rng.integers(n + 1))


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        at = place(content, rng)
        if at < len(content):
            changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def inserted(content: bytes, rng: np.random.Generator) -> bytes:
    at = place(content, rng)
    return content[:at] + rng.bytes(int(rng.integers(1, 20))) + content[at:]


def deleted(content: bytes, rng: np.random.Generator) -> bytes:
    at = place(content, rng)
    return content[:at] + content[at + int(rng.integers(1, 20)) :]


def truncated(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(len(content) + 1)]


def repeated(content: bytes, rng: np.random.Generator) -> bytes:
    at, n = place(content, rng), int(rng.integers(1, 80))
    return content[: at + n] + content[at:]


def overwritten(content: bytes, rng: np.random.Generator) -> bytes:
    """An extreme whole number of 1, 2, 4 or 8 bytes."""
    at, n = place(content, rng), int(rng.choice([1, 2, 4, 8]))
    word = int(rng.choice(WORDS)) % 256**n
    number = word.to_bytes(n, "little" if rng.random() < 0.5 else "big")
    return content[:at] + number + content[at + n :]


def replaced_number(content: bytes, rng: np.random.Generator) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d+)?", content))
    if not found:
        return content
    match = found[rng.integers(len(found))]
    return content[: match.start()] + EXTREMES[rng.integers(len(EXTREMES))] + content[match.end() :]


def swapped(content: bytes, rng: np.random.Generator) -> bytes:
    """Two cells, words or lines."""
    parts = re.split(rb"([,\n= ])", content)
    i, j = rng.integers(len(parts), size=2)
    parts[i], parts[j] = parts[j], parts[i]
    return b"".join(parts)


def without_column(content: bytes, rng: np.random.Generator) -> bytes:
    """Of all lines or of one."""
    lines = content.split(b"\n")
    column, one = rng.integers(8), rng.integers(2 * len(lines))
    for i, line in enumerate(lines):
        if one >= len(lines) or i == one:
            cells = line.split(b",")
            lines[i] = b",".join(cells[:column] + cells[column + 1 :])
    return b"\n".join(lines)


def without_line(content: bytes, rng: np.random.Generator) -> bytes:
    lines = content.split(b"\n")
    del lines[rng.integers(len(lines))]
    return b"\n".join(lines)


def repeated_line(content: bytes, rng: np.random.Generator) -> bytes:
    lines = content.split(b"\n")
    lines.insert(rng.integers(len(lines)), lines[rng.integers(len(lines))])
    return b"\n".join(lines)


def marked(content: bytes, rng: np.random.Generator) -> bytes:
    """A quotation mark, line end, zero, byte-order mark or bracket somewhere."""
    marks = (b'"', b"'", b"\r", b"\n", b"\0", b"\xef\xbb\xbf", b"\t", b";", b"[", b"{", b"\xe9")
    at = place(content, rng)
    return content[:at] + marks[rng.integers(len(marks))] + content[at:]


BYTES = (flipped, inserted, deleted, truncated, repeated, overwritten)
IN_PLACE = (flipped, overwritten)
TEXTS = (replaced_number, swapped, without_column, without_line, repeated_line, marked)


# --- cases, in a process of their own -------------------------------------------------------------


def write_case(folder: Path, kind: str, seed: int) -> Path:
    """The damaged file, and what is beside it; returns the path to read."""
    way = FORMATS[kind]
    global RNG
    RNG = np.random.default_rng(0)
    way.write(folder / way.name)
    target = folder / (way.target or way.name)
    rng = np.random.default_rng([seed, list(FORMATS).index(kind)])
    content = target.read_bytes()
    is_text = way.is_text or kind == "safetensors"
    if way.within is not None and rng.random() < 2 / 3:
        content = way.within(content, lambda part: damaged(part, is_text, rng))
    else:
        content = damaged(content, way.is_text, rng)
    target.write_bytes(content)
    return folder / way.name


RIGHT = ("read", "read alone", "refused")
"""Outcomes that are not wrong."""


def outcome(path: Path, kind: str) -> str:
    """``refused``, ``read``, ``read alone`` where the reference refuses, or what is wrong."""
    try:
        found = FORMATS[kind].read(path)
    except (DataError, CheckpointError) as error:
        chain = f"{error!r} {error.__cause__!r}"
        if re.search("bad_alloc|MemoryError|[aA]llocate ", chain):
            return f"memory: {chain}"
        return "refused" if str(path.parent) in str(error) else f"without the file's name: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    try:
        expected = FORMATS[kind].reference(path)
    except Exception:
        return "read alone"
    if kind == "annotation csv":
        return "read" if found in expected else f"found {found}, not in {expected}"
    return "read" if same(found, expected) else f"found {found!r}, expected {expected!r}"


def same(found: Any, expected: Any) -> bool:
    if isinstance(found, np.ndarray):
        expected = np.asarray(expected)
        if np.array_equal(found, expected):  # with less memory than what follows
            return True
        close = found.shape == expected.shape and np.allclose(
            found, expected, rtol=1e-5, atol=1e-15, equal_nan=True
        )
        return bool(close)
    if isinstance(found, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return repr(found) == repr(expected)


def limit_memory() -> None:
    """Of this process, to ``MEMORY`` more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def child(first: int, n: int) -> None:
    """Try cases, a line each before and after."""
    warnings.simplefilter("ignore")
    limit_memory()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends loops in C, too
    kinds = list(FORMATS)
    with tempfile.TemporaryDirectory() as scratch:
        for case in range(first, n):
            print(f"case {case}", flush=True)
            folder = Path(scratch) / str(case)
            folder.mkdir()
            kind = kinds[case % len(kinds)]
            path = write_case(folder, kind, case)
            signal.alarm(SECONDS)
            said = outcome(path, kind)
            signal.alarm(0)
            print(json.dumps(said), flush=True)
            shutil.rmtree(folder)


def tried(n: int, kept: Path, first: int = 0) -> tuple[dict[str, Counter[str]], list[str]]:
    """What became of cases ``first`` to ``n - 1`` of each format, and of what is wrong a line each.

    The files of those that are wrong are written below ``kept``.
    """
    counts = {kind: Counter[str]() for kind in FORMATS}
    wrong: list[str] = []
    kinds = list(FORMATS)
    while first < n:
        command = [sys.executable, "-m", "tests.al_gym.data.hostile", "--child", f"{first},{n}"]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=Path(__file__).parents[3]
        )
        lines = done.stdout.splitlines()
        if not lines:
            raise RuntimeError(f"the child did not begin: {done.stderr[-2000:]}")
        if lines[-1].startswith("case"):  # it did not come back
            lines.append(json.dumps(f"ended by {done.returncode}: {done.stderr[-300:]}"))
        for at in range(0, len(lines), 2):
            case, said = int(lines[at].split()[1]), json.loads(lines[at + 1])
            kind = kinds[case % len(kinds)]
            counts[kind]["tried"] += 1
            if said in RIGHT:
                counts[kind][said] += 1
                continue
            counts[kind]["wrong"] += 1
            folder = kept / f"{kind.replace(' ', '_')}-{case}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_case(folder, kind, case)
            wrong.append(f"{kind}, seed {case}, kept in {folder}: {said[:500]}")
        first = int(lines[-2].split()[1]) + 1
    return counts, wrong


def table(counts: dict[str, Counter[str]]) -> str:
    """As text."""
    columns = ("tried", "read", "read alone", "refused", "wrong")
    total = sum(counts.values(), Counter[str]())
    lines = [f"{'format':<15}" + "".join(f"{column:>11}" for column in columns)]
    for kind, count in [*counts.items(), ("all", total)]:
        lines.append(f"{kind:<15}" + "".join(f"{count[column]:>11}" for column in columns))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kept", type=Path, default=Path(tempfile.gettempdir()) / "hostile")
    parser.add_argument("--child")
    arguments = parser.parse_args()
    if arguments.child:
        child(*map(int, arguments.child.split(",")))
        return
    counts, wrong = tried(arguments.cases, arguments.kept, arguments.first)
    print("\n".join([*wrong, table(counts)]))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
