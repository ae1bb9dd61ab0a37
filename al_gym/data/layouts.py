"""What lies below a folder of images: every file's class, patient and side of the split.

Which files are images (``walk.find_files``, ``formats.header``), what folders or a label csv say of
each (``places``), and what an image is made of: a file, or the slices of a series.
"""

import functools
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from al_gym.data import cache, formats, labels, patients, places, skipping, splits
from al_gym.data.dataset import UNKNOWN
from al_gym.data.places import Place
from al_gym.data.walk import Found, find_files, folders_above, is_excluded, listed, without_ending
from al_gym.errors import DataError

DETACHED = re.compile(
    rb"^[ \t]*ElementDataFile\s*[=:]\s*(?!LOCAL\b)\S|^data ?file:|\A.{344}ni1\0",
    re.MULTILINE | re.DOTALL,
)
"""What MetaImage, NRRD and NIfTI headers have whose voxels are in a file beside them."""
MASK = re.compile(r"(?i)(^|[^a-z])(masks?|seg|segmentations?|annotations?)([^a-z]|$)")
NOTHING = formats.Header(0, 0)  # is known of a file that cannot be read
FEW_SLICES = 5  # that a volume hardly has
HEADER_BYTES = 2**16  # such headers are smaller
VOXELS = (".raw", ".zraw", ".raw.gz", ".img", ".img.gz")


@dataclass(frozen=True)
class Record:
    """An image: a file, or the slices of a DICOM series."""

    name: str
    """Its path below the root; of a series its folder, or its first file if others are there."""
    paths: tuple[Path, ...]
    class_name: str | None
    side: str
    group: str
    """The patient."""
    n_dims: int
    n_channels: int
    is_deep: bool
    """See ``formats.Header``."""
    is_detached: bool
    """Whether the file is a header, and its voxels are in another file of the folder."""
    problem: str | None = None
    """Why it cannot be used; what a header says is then not known."""


@dataclass(frozen=True)
class Layout:
    """All that was found."""

    records: list[Record]
    """By side, class and path; unlabelled ones after the classes."""
    class_names: tuple[str, ...]
    beside: list[Path]
    """Other files in the folders of detached headers: among them their voxels."""
    notes: list[str]

    def rows(self) -> splits.Rows:
        """What is known of the records, row by row."""
        indices: dict[str | None, int] = {name: i for i, name in enumerate(self.class_names)}
        return splits.Rows(
            names=np.array([record.name for record in self.records]),
            labels=np.array(
                [indices.get(record.class_name, UNKNOWN) for record in self.records], np.int64
            ),
            groups=np.array([record.group for record in self.records]),
            sides=np.array([record.side for record in self.records]),
        )

    def contents(self) -> list[list[Path]]:
        """The files that hold each record's pixels; too many rather than too few; of bad, none."""
        in_folder, voxels = defaultdict(list), defaultdict(list)
        for path in self.beside:
            in_folder[path.parent].append(path)
            if path.name.lower().endswith(VOXELS):
                voxels[without_ending(str(path))].append(path)
        contents = []
        for record in self.records:
            if record.problem is not None:
                contents.append(list[Path]())
                continue
            header = record.paths[0]
            others = voxels[without_ending(str(header))] or in_folder[header.parent]
            contents.append([*record.paths, *(others if record.is_detached else [])])
        return contents


def read(
    root: Path,
    *,
    labels_csv: Path | None = None,
    exclude: Sequence[str] = (),
    group_pattern: str | None = None,
    join_series: bool = True,
    class_names: Sequence[str] | None = None,
    skip: bool = False,
) -> Layout:
    """Find the images below ``root`` and what is said of them; arguments as of ``folder.load``.

    Args:
        root: the folder.
        labels_csv: path of the label csv.
        exclude: see ``folder.load``.
        group_pattern: see ``folder.load``.
        join_series: see ``folder.load``.
        class_names: see ``folder.load``.
        skip: whether images that cannot be used are records with a ``problem``, in place of an
            error. They keep their place in the draw of test images.

    Raises:
        FileNotFoundError: no images, or nothing that names their classes.
        ValueError: a ``group_pattern`` that does not match, or is not needed.
        DataError: a file or link that cannot be used, a layout that could mean two things; names
            it.
    """
    found = find_files(root, exclude)
    if labels_csv is None:
        labels_csv = _labels_csv(root, found.files)
    headers, problems = _headers(root, found.files, skip)
    if not headers:
        raise FileNotFoundError(f"there are no images below {root}. It must hold {places.LAYOUTS}")
    notes_of_csv: list[str] = []
    if labels_csv is not None:
        place_of, notes_of_csv = places.by_csv(root, labels_csv, list(headers), found.excluded)
    elif class_names is not None:
        place_of = places.by_class_names(list(headers), class_names)
    else:
        place_of = places.by_folder(root, list(headers))
    names = {place.class_name for place in place_of.values() if place.class_name}
    if class_names is None:
        class_names = tuple(sorted(names)) if labels_csv is None else labels.class_names(names)
        places.check_classes(root, place_of, class_names)
    else:
        places.check_given_classes(place_of, class_names)
    if group_pattern is not None and any(place.patient for place in place_of.values()):
        raise ValueError(
            f"{labels_csv} has a column patient, and group_pattern is given: leave one of them out"
        )
    records = _records(root, headers, place_of, group_pattern, join_series, problems)
    ranks = {name: rank for rank, name in enumerate([*class_names, None])}
    records.sort(key=lambda r: (splits.SIDES.index(r.side), ranks[r.class_name], r.paths[0]))
    notes = [
        *_notes(root, found, headers, records, labels_csv, exclude),
        *_doubts(root, headers, place_of, records),
        *notes_of_csv,
    ]
    return Layout(records, tuple(class_names), _beside(root, found, records), notes)


def unlabelled(
    root: Path, exclude: Sequence[str] = (), join_series: bool = True
) -> tuple[list[Record], dict[str, str]]:
    """All images below ``root``, of which nothing is asked but to be images; see ``folder.load``.

    Returns:
        The images by path, and those that cannot be used, by path below the root, with the reason.

    Raises:
        DataError: a link that leads nowhere, or out of the root; a name that is not UTF-8.
    """
    names = find_files(root, exclude).files
    headers: dict[str, formats.Header] = {}
    problems: dict[str, str] = {}

    def look(i: int) -> formats.Header | Exception | None:
        try:
            return formats.header(root / names[i])
        except (ValueError, OSError) as error:
            return error

    looked = cache.in_threads(look, len(names), "looking into files")
    for name, header in zip(names, looked, strict=True):
        if isinstance(header, Exception):
            problems[name] = str(header)
        elif header is not None:
            headers[name] = header
    for slices in _joined(headers, join_series):
        if len({headers[name].patient for name in slices}) > 1:
            problems[slices[0]] = f"slices of one DICOM series are of several patients: {slices}"
            headers = {name: header for name, header in headers.items() if name not in slices}
    records = _records(root, headers, dict.fromkeys(headers, Place(None)), None, join_series)
    return sorted(records, key=lambda record: record.paths[0]), problems


def _labels_csv(root: Path, names: Sequence[str]) -> Path | None:
    """The label csv in the root, in any case of its letters."""
    spelled = [name for name in names if name.lower() == places.LABELS]
    if len(spelled) > 1:
        raise DataError(
            f"{root} could mean two things: {' or '.join(spelled)} may be its label csv. Leave one "
            f"out, as with exclude={spelled[0]!r}, or pass labels="
        )
    return root / spelled[0] if spelled else None


def _headers(
    root: Path, names: Sequence[str], skip: bool
) -> tuple[dict[str, formats.Header], dict[str, str]]:
    """Those files that are images by their content.

    Returns:
        The headers; and, if ``skip``, why some cannot be read, whose headers say nothing.
    """
    title = "looking into files"
    if not skip:
        headers = cache.in_threads(lambda i: formats.header(root / names[i]), len(names), title)
        return {name: header for name, header in zip(names, headers, strict=True) if header}, {}
    skipped = skipping.Skipped(str(root), names, most=1)  # of all files; of images later
    looked = skipped.attempted(functools.partial(_fields_of_header, root, names), title)
    problems = {names[i]: reason for i, reason in sorted(skipped.reasons.items())}
    found = {name: formats.Header(**of) for name, of in zip(names, looked, strict=True) if of}
    return {
        name: NOTHING if name in problems else found[name]
        for name in names
        if name in problems or name in found
    }, problems


def _fields_of_header(root: Path, names: Sequence[str], i: int) -> dict[str, Any] | None:
    """Of one file; None: it is no image."""
    header = formats.header(root / names[i])
    return None if header is None else asdict(header)


def _notes(
    root: Path,
    found: Found,
    headers: Mapping[str, formats.Header],
    records: Sequence[Record],
    labels_csv: Path | None,
    exclude: Sequence[str],
) -> list[str]:
    """What is there and not read, and what was joined."""
    with_voxels = {without_ending(record.name) for record in records if record.is_detached}
    csv = None if labels_csv is None else labels_csv.resolve()
    passed_over = [
        name for name in found.files
        if name not in headers and without_ending(name) not in with_voxels
        and (root / name).resolve() != csv
    ]  # fmt: skip
    tables = [
        name for name in passed_over if csv is None and name.lower().endswith((".csv", ".tsv"))
    ]
    with_images = {above for name in headers for above in folders_above(name)}
    lists = {
        "no images by their content, passed over": [
            name for name in passed_over if name not in tables
        ],
        "tables, passed over; if one has the labels or patients, name it as labels=": tables,
        "folders without images": [name for name in found.folders if name not in with_images],
        "hidden or of the system, not read": found.hidden,
        "left out by exclude": found.excluded,
        "patterns of exclude that nothing matches": [
            pattern for pattern in exclude
            if not any(is_excluded(name, [pattern]) for name in found.excluded)
        ],
    }  # fmt: skip
    notes = [f"{what}: {listed(names)}" for what, names in lists.items() if names]
    n_slices = [len(record.paths) for record in records if len(record.paths) > 1]
    if n_slices:
        notes.append(
            f"{sum(n_slices)} DICOM files are slices of {len(n_slices)} series, and each series is "
            "one volume; join_series=False takes every file as an image"
        )
        longest = max(n_slices)
        few = [r for r in records if 1 < len(r.paths) < FEW_SLICES and 2 * len(r.paths) <= longest]
        if few:
            notes.append(
                f"series of fewer than {FEW_SLICES} slices, where others have {longest}; if they "
                f"are localisers, use exclude: {listed([record.name for record in few])}"
            )
    return notes


def _doubts(
    root: Path,
    headers: Mapping[str, formats.Header],
    place_of: Mapping[str, Place],
    records: Sequence[Record],
) -> list[str]:
    """What is read as it stands, and may be meant otherwise."""
    below_class = {name: name.split("/", place_of[name].depth)[-1] for name in headers}
    notes = []
    masks = [name for name, below in below_class.items() if MASK.search(below)]
    if masks:
        notes.append(f"read as images; if they are masks, use exclude: {listed(masks)}")
    alone = []  # in folders, and groups of their own, as no header names a patient
    for record in records:
        name = record.paths[0].relative_to(root).as_posix()
        if record.group in (name, headers[name].series) and "/" in below_class[name]:
            alone.append(record.name)
    if alone:
        pattern = patients.pattern_of_folders(root, place_of)
        hint = f", as group_pattern={pattern!r} would do" if pattern else ""
        notes.append(f"in folders that are not taken for patients{hint}: {listed(alone)}")
    return notes


def _is_detached(path: Path) -> bool:
    if path.stat().st_size > HEADER_BYTES or not formats.is_volume(path):
        return False  # before the search, which takes far longer
    return DETACHED.search(path.read_bytes()) is not None


def _beside(root: Path, found: Found, records: Sequence[Record]) -> list[Path]:
    """Whatever lies in the folders of detached headers and is no image itself."""
    images = {path for record in records for path in record.paths}
    folders = {record.paths[0].parent for record in records if record.is_detached}
    others = (root / name for name in [*found.files, *found.excluded])
    return [
        path for path in others if path.parent in folders and path not in images and path.is_file()
    ]


def _records(
    root: Path,
    headers: Mapping[str, formats.Header],
    place_of: Mapping[str, Place],
    group_pattern: str | None,
    join_series: bool,
    problems: Mapping[str, str] = MappingProxyType({}),
) -> list[Record]:
    """Files and series; bad ones with their problem."""
    bad_in = {posixpath.dirname(name): name for name in problems}
    n_below = Counter(above for name in headers for above in folders_above(name))
    records = []
    for names in _images(root, headers, place_of, join_series):
        header, place = headers[names[0]], place_of[names[0]]
        problem = problems.get(names[0])
        beside = [bad_in[folder] for folder in map(posixpath.dirname, names) if folder in bad_in]
        if len(names) > 1 and beside:
            problem = f"{beside[0]}, in its folder, cannot be read, and may be a slice of it"
        records.append(
            Record(
                name=_name(names, n_below, place.depth),
                paths=tuple(root / name for name in names),
                class_name=place.class_name,
                side=place.side,
                group=patients.group_of(root, names, header, place, group_pattern),
                n_dims=header.n_dims if len(names) == 1 else 3,
                n_channels=header.n_channels,
                is_deep=any(headers[name].is_deep for name in names),
                is_detached=problem is None and len(names) == 1 and _is_detached(root / names[0]),
                problem=problem,
            )
        )
    return records


def _images(
    root: Path,
    headers: Mapping[str, formats.Header],
    place_of: Mapping[str, Place],
    join_series: bool,
) -> list[list[str]]:
    """See ``_joined``; slices of one series of which different things are said are refused."""
    images = _joined(headers, join_series)
    for files in images:
        first = files[0]
        for name in files[1:]:
            said = [
                (place_of[n].class_name, place_of[n].side, place_of[n].patient, headers[n].patient)
                for n in (first, name)
            ]
            if said[0] != said[1]:
                raise DataError(
                    f"{root / first} and {root / name} are slices of one DICOM series and differ "
                    f"in class, side of the split or patient: {said[0]} and {said[1]}. Move them "
                    "together, name their folder in the label csv, or pass join_series=False to "
                    "take every file as an image"
                )
    return images


def _joined(headers: Mapping[str, formats.Header], join_series: bool) -> list[list[str]]:
    """The files of each image: one, or the slices of a series."""
    images = defaultdict(list)
    for name, header in headers.items():
        is_slice = join_series and header.series is not None and header.n_dims == 2
        images[header.series if is_slice else name].append(name)
    return list(images.values())


def _name(files: Sequence[str], n_below: Mapping[str, int], depth: int) -> str:
    """The file, or the folder of a series that has one to itself below that of its class."""
    folder = posixpath.commonpath([posixpath.dirname(file) for file in files])
    own = n_below.get(folder) == len(files) and folder.count("/") >= depth
    return folder if len(files) > 1 and own else files[0]
