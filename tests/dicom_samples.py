"""DICOM files that tests make for themselves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

STORAGE = "1.2.840.10008.5.1.4.1.1."
CT, SECONDARY_CAPTURE, ULTRASOUND_FILM = STORAGE + "2", STORAGE + "7", STORAGE + "3.1"


def write_dicom(
    path: Path,
    pixels: np.ndarray,
    *,
    syntax: str = ExplicitVRLittleEndian,
    sop_class: str = SECONDARY_CAPTURE,
    **tags: Any,
) -> None:
    """An image, given as (rows, columns), (frames, rows, columns), or these with three colours.

    Tags that ``pixels`` do not tell are those of a grey or RGB image of all its bits.
    """
    colour = pixels.shape[-1] == 3
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.preamble = bytes(128)
    shape = pixels.shape[:-1] if colour else pixels.shape
    bits = pixels.dtype.itemsize * 8
    settings = {
        "Rows": shape[-2],
        "Columns": shape[-1],
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        **({"NumberOfFrames": shape[0]} if len(shape) == 3 else {}),
        **({"PlanarConfiguration": 0} if colour else {}),
        **tags,
    }
    settings.setdefault("HighBit", settings["BitsStored"] - 1)
    for name, value in settings.items():
        setattr(dataset, name, value)
    if settings.get("PlanarConfiguration") == 1:
        pixels = np.moveaxis(pixels, -1, -3)
    little = syntax != pydicom.uid.ExplicitVRBigEndian
    content = pixels.astype(pixels.dtype.newbyteorder("<" if little else ">")).tobytes()
    dataset.PixelData = content + bytes(len(content) % 2)
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    implicit = syntax == pydicom.uid.ImplicitVRLittleEndian
    pydicom.dcmwrite(
        path, dataset, enforce_file_format=True, little_endian=little, implicit_vr=implicit
    )


def write_series(folder: Path, n_slices: int, **tags: Any) -> list[Path]:
    """Axial slices of a CT, 2.5 mm apart, full of their numbers from below; names tell nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "SeriesInstanceUID": generate_uid(entropy_srcs=[str(folder)]),
        "PatientID": "p1",
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.5, 0.5],
        **tags,
    }
    paths = []
    for i in range(n_slices):
        path = folder / f"IM{(7 * i + 3) % 97:03d}"
        position = {"ImagePositionPatient": [-10, -20, 2.5 * i - 40]}
        pixels = np.full((6, 8), i, np.int16)
        write_dicom(path, pixels, sop_class=CT, **{**position, **settings})
        paths.append(path)
    return paths


def write_slice(
    path: Path,
    pixels: np.ndarray,
    *,
    series: str = "1.2.3",
    patient: str = "p1",
    z: float = 0,
    axes: Sequence[float] = (1, 0, 0, 0, 1, 0),
    **tags: Any,
) -> None:
    """One slice of (rows, columns) of a series, in a folder that is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dicom(
        path, pixels, sop_class=CT, SeriesInstanceUID=series, PatientID=patient,
        ImagePositionPatient=[0, 0, z], ImageOrientationPatient=list(axes), PixelSpacing=[1, 1],
        **tags,
    )  # fmt: skip
