"""Writes DICOM slices for tests."""

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

AXIAL = (1, 0, 0, 0, 1, 0)


def write_slice(
    path, pixels, *, series="1.2.3", patient="p1", z=0.0, number=1, axes=AXIAL,
    slope=1, intercept=0, photometric="MONOCHROME2",
):  # fmt: skip
    """A CT slice of (H, W) int16 with its place in a series."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{series}.{number}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, f"{series}.{number}"
    file.Modality, file.SeriesInstanceUID, file.StudyInstanceUID = "CT", series, "1.2"
    file.PatientID, file.InstanceNumber = patient, number
    file.ImagePositionPatient, file.ImageOrientationPatient = [0, 0, z], list(axes)
    file.PixelSpacing, file.SliceThickness = [1, 1], 1
    file.Rows, file.Columns = pixels.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, photometric
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 1
    file.RescaleSlope, file.RescaleIntercept = slope, intercept
    file.PixelData = np.ascontiguousarray(pixels, "<i2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, file, enforce_file_format=True)
    return path
