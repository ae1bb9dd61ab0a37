"""Generated chest CT in the on-disk format of the Tianchi competition.

Every lesion is a shape on a scale from compact (0) to drawn out (1). Nodules and cords share one
such scale, calcified nodes and vessel walls another, and each label has its own distribution over
it: classes overlap by geometry, and no label is wrong.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

from al_gym.data import cache, files

VERSION = 1  # part of every seed; raise it when the same seed would give other files

# --- the real data set ----------------------------------------------------------------------------

LESION_COUNTS = {1: 3264, 5: 3613, 31: 4201, 32: 1140}  # label -> lesions in the annotation file
PERCENTILES = (5, 25, 50, 75, 95)
EXTENTS_MM = {  # label -> percentiles of the boxes' extents in x and y, and in z
    1: ((4.2, 5.9, 7.5, 9.9, 15.6), (4, 5, 5, 7, 10)),
    5: ((6.2, 11.2, 17.6, 27.5, 54.7), (3, 5, 5, 12, 32)),
    31: ((4.7, 7.3, 10.2, 14.8, 27.3), (5, 5, 7, 10, 25)),
    32: ((4.9, 7.3, 9.6, 13.0, 21.9), (5, 5, 6, 10, 21)),
}

# --- how hard the classes are to tell apart -------------------------------------------------------


@dataclass(frozen=True)
class ChestLook:
    """What lesions and scans look like."""

    lung_separation: float = 1.3
    """s: nodules ~ Beta(1, s), cords ~ Beta(s, 1) from compact to drawn out."""
    calcium_separation: float = 1.5
    """s: nodes ~ Beta(1, s), vessel walls ~ Beta(s, 1) from clump to arc."""
    faint: float = 0.5
    """Share of part-solid lung lesions, and of calcifications below 400 HU."""
    calcified_cores: float = 0.2
    """Share of lung lesions with a calcified core."""
    crossing_vessels: float = 0.8
    """Share of lung lesions with a vessel running through or past them."""
    noise_hu: tuple[float, float] = (30.0, 110.0)
    """Standard deviation of a scan's noise, least and most."""
    lesion_size: float = 1.0
    """Extents of lesions over those of the real set."""
    counts: tuple[int, int, int, int] = tuple(LESION_COUNTS.values())  # type: ignore[assignment]
    """Of nodules, cords, vessel walls and nodes, in proportion; those of the real set."""


# --- files ----------------------------------------------------------------------------------------


def write_chestct(
    out: Path, scans: int, seed: int, progress: bool = True, look: ChestLook = ChestLook()
) -> None:
    """Write chest CT scans with annotated lesions, in the layout of the Tianchi competition.

    ``chestCT_round1_annotation.csv`` holds one line a lesion (centre and full extents of its box in
    world mm, label 1, 5, 31 or 32), ``train_part1..5/<seriesuid>.mhd`` and ``.raw`` the volumes
    (int16 HU). A scan has about 15 lesions and 1.5 MB. Voxel spacing and sizes of lesions are those
    of the real set; the chest is drawn at about 40 % of an adult's scale, to keep files small.

    Args:
        out: folder to fill, created if missing. The csv is written last.
        scans: number of scans.
        seed: scan i is drawn from the seed and i alone.
        progress: show a progress bar.
        look: of lesions and scans.

    Raises:
        FileExistsError: ``out`` is not empty.
        ValueError: ``scans`` is not positive.
    """
    if scans < 1:
        raise ValueError(f"scans must be positive, not {scans}")
    files.new_folder(out)
    for part in range(1, 6):
        (out / f"train_part{part}").mkdir()
    rows = cache.in_threads(
        lambda index: _write_scan(out, index, seed, look), scans, "drawing CT scans", progress
    )
    columns = "seriesuid,coordX,coordY,coordZ,diameterX,diameterY,diameterZ,label"
    files.write_table(out / "chestCT_round1_annotation.csv", columns, chain.from_iterable(rows))


# --- drawing --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tissue:
    """One kind of tissue: an ellipsoid swept along a path."""

    path: np.ndarray
    """(k, 3) points x, y, z in mm; one point makes an ellipsoid."""
    axes: np.ndarray
    """(3,) semi-axes in mm."""
    hu: float
    """Density."""
    opacity: float = 1.0
    """Its share in the mixture with what was there before."""
    blur: float = 1.0
    """Width of its edge in mm."""


@dataclass(frozen=True)
class Body:
    """The frame that a chest is drawn in."""

    shape: np.ndarray
    """(3,) voxels along x, y, z."""
    spacing: np.ndarray
    """(3,) mm."""
    half: np.ndarray
    """(2,) half of the body's width and thickness in mm."""

    def at(self, u: float, v: float, s: float) -> np.ndarray:
        """(3,) mm of a point: u to the left and v to the back from -1 to 1, s upwards from 0."""
        centre = (self.shape[:2] - 1) * self.spacing[:2] / 2
        return np.array([*(centre + (u, v) * self.half), s * self.shape[2] * self.spacing[2]])

    def tube(self, ends: Sequence[Sequence[float]], axes: Sequence[float], hu: float) -> Tissue:
        """Tissue along points of ``at``; ``axes`` in mm."""
        return Tissue(np.array([self.at(*end) for end in ends]), np.array(axes), hu)


def _write_scan(out: Path, index: int, seed: int, look: ChestLook) -> list[list[Any]]:
    """Draw and write scan ``index``; returns its lines of the annotation file."""
    rng = np.random.default_rng([VERSION, seed, index])
    in_plane, between_slices = rng.uniform(0.58, 0.79), rng.choice([2.5, 5, 7], p=[0.1, 0.8, 0.1])
    spacing = np.array([in_plane, in_plane, between_slices]).round(6)
    shape = np.array([192, 160, rng.integers(22, 27)])
    origin = (rng.uniform(-20, 20, 3) - shape * spacing / 2 - (0, 0, 120)).round(3)
    body = Body(shape, spacing, (shape * spacing / 2)[:2] * rng.uniform((0.93, 0.88), (0.99, 0.97)))
    hu, lung, sites = _draw_chest(body, rng)
    lesions = _draw_lesions(hu, lung, sites, spacing, look, rng)
    # smoothed in the plane, as a scanner's kernel does
    noise = gaussian_filter(_white_noise(hu.shape, rng), (0, 0.6, 0.6))
    hu += noise * (rng.uniform(*look.noise_hu) / float(noise.std()))

    # 7919 and 400000 have no common factor: no two scans of a seed share a number
    series = 300000 + (7919 * index + 104729 * seed) % 400000
    stem = out / f"train_part{1 + index % 5}" / str(series)
    stem.with_suffix(".raw").write_bytes(hu.clip(-1024, 3071).round().astype("<i2").tobytes())
    text = [" ".join(map(str, values.tolist())) for values in (origin, spacing, shape)]
    stem.with_suffix(".mhd").write_text(
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        f"CompressedData = False\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = {text[0]}\n"
        f"ElementSpacing = {text[1]}\nDimSize = {text[2]}\nElementType = MET_SHORT\n"
        f"ElementDataFile = {series}.raw\n"
    )
    return [
        [series, *(centre + origin).round(6).tolist(), *extents.round(6).tolist(), label]
        for label, centre, extents in lesions
    ]


def _white_noise(shape: tuple[int, ...], rng: Generator) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _draw(hu: np.ndarray, spacing: np.ndarray, tissue: Tissue) -> None:
    """Blend a tissue into ``hu`` (z, y, x), with partial volume; only voxels nearby are touched."""
    n_sub = 4  # per slice: slices are thick
    axes, path = tissue.axes.astype(np.float32), tissue.path.astype(np.float32)
    size = hu.shape[::-1]
    low = np.floor((path.min(0) - axes - tissue.blur) / spacing).astype(int).clip(0, size)
    high = np.ceil((path.max(0) + axes + tissue.blur) / spacing + 1).astype(int).clip(0, size)
    # in units of the semi-axes the ellipsoid is a ball of radius 1
    step, points = (spacing / axes).astype(np.float32), path / axes
    x = np.arange(low[0], high[0]) * step[0]
    y = np.arange(low[1], high[1])[:, None] * step[1]
    z = (np.arange(low[2], high[2], 1 / n_sub)[:, None, None] + 0.5 / n_sub - 0.5) * step[2]
    x, y, z = x.astype(np.float32), y.astype(np.float32), z.astype(np.float32)
    nearest: Any = np.float32(np.inf)
    for start, end in pairwise(points if len(points) > 1 else [points[0]] * 2):
        (dx, dy, dz), (px, py, pz) = end - start, (x - start[0], y - start[1], z - start[2])
        length = max(dx * dx + dy * dy + dz * dz, np.float32(1e-12))
        t = ((px * dx + py * dy + pz * dz) / length).clip(0, 1)
        nearest = np.minimum(nearest, (px - t * dx) ** 2 + (py - t * dy) ** 2 + (pz - t * dz) ** 2)
    distance = (np.sqrt(nearest) - 1) * axes[:2].min()
    coverage = (0.5 - distance / tissue.blur).clip(0, 1)
    box = hu[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
    coverage = coverage.reshape(len(box), n_sub, *box.shape[1:]).mean(1)
    box += tissue.opacity * coverage * (tissue.hu - box)


def _blend(hu: np.ndarray, distance: Any, value: Any) -> None:
    """Fill what lies inside, where the signed ``distance`` (mm) is negative."""
    hu += (0.5 - distance / 1.2).clip(0, 1) * (value - hu)


def _ellipse(x: Any, y: Any, rx: Any, ry: Any, power: float = 2.0) -> Any:
    """About the signed distance to a (super)ellipse around the origin; negative inside."""
    norm = (abs(x / rx) ** power + abs(y / ry) ** power) ** (1 / power)
    return (norm - 1) * np.minimum(rx, ry)


def _draw_chest(body: Body, rng: Generator) -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray]]:
    """A chest without lesions.

    Returns:
        HU and the signed distance to the lungs in mm (negative inside), both (z, y, x) float32;
        label -> (n, 3) points in mm where such a lesion may lie.
    """
    (a, b), (nx, ny, nz), (sx, sy, sz) = (v.tolist() for v in (body.half, body.shape, body.spacing))
    x = (np.arange(nx, dtype=np.float32) - (nx - 1) / 2) * sx
    y = (np.arange(ny, dtype=np.float32)[:, None] - (ny - 1) / 2) * sy
    s = np.arange(nz, dtype=np.float32)[:, None, None] / nz

    # signed distances: chest cavity; what lies between the lungs; height of the diaphragm
    wall, narrow = rng.uniform(7, 11), 1 - 0.28 * s**3
    cavity = _ellipse(x, y - 0.02 * b, (a - wall) * narrow, (b - wall) * narrow, 2.3)
    between = abs(x - 0.03 * a) - a * (0.08 + 0.05 * y / b)
    heart = _ellipse(x - 0.13 * a + 0.15 * y, y + 0.2 * b, 0.34 * a, 0.36 * b) - 1.5
    great_vessels = _ellipse(x, y + 0.1 * b, 0.23 * a, 0.4 * b) + 40 * (0.55 - s).clip(0)
    aorta = _ellipse(x - 0.17 * a, y - 0.36 * b, 0.15 * a, 0.15 * a)
    spine = _ellipse(x, y - 0.66 * b, 0.2 * a, 0.25 * b)
    for organ in (heart + 1.9 * a * (s - 0.34) ** 2, great_vessels, aorta, spine):
        between = np.minimum(between, organ)
    dome = 0.21 - 0.03 * np.sign(x) - 0.9 * (abs(x) / a - 0.47) ** 2 - 0.3 * (y / b) ** 2
    lung = np.maximum(np.maximum(cavity + 1.5, -between), (dome - s) * nz * sz)
    phase = rng.uniform(0, 2 * np.pi, 4).tolist()  # nothing in a body is quite an ellipse
    lung += 0.8 * np.sin(x / 7 + phase[0] + 5 * s) * np.sin(y / 8 + phase[1])
    lung += 0.5 * np.sin(x / 3 + phase[2]) * np.sin(y / 3.5 + phase[3] + 9 * s)

    hu = np.full(lung.shape, -1000, np.float32)
    outline = _ellipse(x, y, a, b, 2.4)
    _blend(hu, outline, -100)  # fat
    _blend(hu, outline + rng.uniform(1.5, 4), 50)  # muscle
    ribs = np.cos(9 * np.arctan2(y, abs(x)) + 16 * s) - 0.45
    _blend(hu, np.maximum(abs(cavity - 2.5) - 1.4, -4 * ribs), 420)
    _blend(hu, cavity, np.where(s < dome, np.float32(60), np.float32(-95)))  # liver, or fat
    for tissue in _organs(body, rng):
        _draw(hu, body.spacing, tissue)
    air = -860 + 50 * y / b + 120 * gaussian_filter(_white_noise(hu.shape, rng), (0.3, 1.5, 1.5))
    for side in (-1, 1):
        for direction in rng.normal(size=(7, 3)) * (0.5, 1, 1.3) + (side, 0, 0):
            hilum = body.at(0.2 * side + 0.03, 0.02, 0.5)
            for vessel in _lung_vessels(hilum, direction, 0.14 * a, 2.2, rng):
                _draw(air, body.spacing, vessel)
    _blend(hu, lung, air)

    def positions(mask: np.ndarray) -> np.ndarray:
        return rng.choice(np.argwhere(mask), 400)[:, ::-1] * body.spacing

    nodes = (between < 1) & (cavity < -3) & (abs(s - 0.6) < 0.3) & (abs(y) < 0.45 * b)
    in_lung, walls = positions(lung < -2), _vessel_walls(body, rng)
    return hu, lung, {1: in_lung, 5: in_lung, 31: walls, 32: positions(nodes)}


def _organs(body: Body, rng: Generator) -> Iterator[Tissue]:
    """Heart, great vessels, airways and bones, in the order of drawing."""
    (a, b), tube = body.half.tolist(), body.tube
    r, blood = 0.115 * a * rng.uniform(0.9, 1.15), rng.uniform(35, 50)
    depth = float(body.shape[2] * body.spacing[2])
    yield tube([(0.13, -0.2, 0.34)], (0.34 * a - 1.5, 0.36 * b - 1.5, 0.3 * depth), blood)  # heart
    arch = [(0.17, 0.36, 0), (0.15, 0.33, 0.8), (0, -0.22, 0.8), (-0.03, -0.22, 0.5)]
    yield tube(arch, (r, r, r), blood)
    yield tube([(-0.12, -0.18, 0.5), (-0.12, -0.2, 1.1)], (0.7 * r, 0.7 * r, r), blood)  # vena cava
    yield tube([(0.22, 0, 0.55), (-0.2, 0.05, 0.55)], (0.8 * r, 0.8 * r, r), blood)  # pulmonary
    bronchi = [(-0.25, 0.08, 0.5), (0, 0.08, 0.62), (0.25, 0.08, 0.5)]
    for airway, radius in ((bronchi, 2.6), ([(0, 0.06, 0.62), (0, -0.02, 1.2)], 4.0)):
        yield tube(airway, (radius + 1.2, radius + 1.2, 5), 25)
        yield tube(airway, (radius, radius, 4), -980)
    for y, radius, hu in ((0.62, 0.15, 330), (0.62, 0.13, 170), (0.82, 0.1, 300), (0.82, 0.06, 30)):
        yield tube([(0, y, -0.2), (0, y, 1.2)], (radius * a, 0.86 * radius * a, 5), hu)  # spine
    yield tube([(0, -0.88, 0.1), (0, -0.84, 1)], (0.12 * a, 0.035 * a, 5), 230)  # sternum


def _lung_vessels(
    start: np.ndarray, direction: np.ndarray, length: float, radius: float, rng: Generator
) -> Iterator[Tissue]:
    """A vessel with a bend in it and, down to half a millimetre, its branches."""
    spread = np.array([[0], [0.3], [0.45], [0.45]])
    directions = direction + rng.normal(scale=spread, size=(4, 3))
    directions *= length / np.linalg.norm(directions, axis=1, keepdims=True)
    path = start + np.cumsum([np.zeros(3), *directions[:2]], axis=0)
    yield Tissue(path, np.full(3, radius), 35)
    if radius > 0.8:
        for branch in directions[2:]:
            yield from _lung_vessels(path[2], branch / length, length * 0.8, radius * 0.7, rng)


def _vessel_walls(body: Body, rng: Generator) -> np.ndarray:
    """Points in mm, (70, 3), along the aorta, its arch, and the coronaries on the heart."""
    aorta = np.linspace(body.at(0.17, 0.36, 0.05), body.at(0.15, 0.33, 0.8), 30)
    arch = np.linspace(body.at(0.12, 0.25, 0.82), body.at(0.02, -0.25, 0.8), 10)
    angles, heights = rng.uniform(-np.pi, 0, 30), rng.uniform(0.2, 0.55, 30)
    u, v = 0.13 + 0.29 * np.cos(angles), -0.2 + 0.31 * np.sin(angles)
    return np.concatenate([aorta, arch, [body.at(*p) for p in zip(u, v, heights, strict=True)]])


def _extents(label: int, rng: Generator) -> np.ndarray:
    """Extents of a box, (3,) mm, by the percentiles; beyond the outer two they are cut off."""
    # a Gaussian copula: the extents of a box are correlated by 0.6
    quantiles = 100 * ndtr(0.6**0.5 * rng.normal() + 0.4**0.5 * rng.normal(size=3))
    in_plane, axial = np.log(EXTENTS_MM[label])
    tables = (in_plane, in_plane, axial)
    return np.exp([np.interp(q, PERCENTILES, t) for q, t in zip(quantiles, tables, strict=True)])


def _draw_lesions(
    hu: np.ndarray,
    lung: np.ndarray,
    sites: dict[int, np.ndarray],
    spacing: np.ndarray,
    look: ChestLook,
    rng: Generator,
) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Draw 12 to 18 lesions whose boxes are disjoint; returns label, centre and extents of each."""
    counts = np.array(look.counts)
    labels = rng.choice(list(LESION_COUNTS), rng.integers(12, 19), p=counts / counts.sum()).tolist()
    wanted = [(label, look.lesion_size * _extents(label, rng)) for label in labels]
    wanted.sort(key=lambda lesion: -lesion[1].prod())  # the large ones, while there is room
    lesions: list[tuple[int, np.ndarray, np.ndarray]] = []
    for label, extents in wanted:
        in_lung = label in (1, 5)
        tissues, anchor = (_lung_lesion if in_lung else _calcification)(label, extents, look, rng)
        centres = sites[label] - anchor
        # readers draw boxes on slices: a thin lesion lies on one, not between two
        centres[:, 2] = (centres[:, 2] / spacing[2]).round() * spacing[2]
        last = (np.array(lung.shape[::-1]) - 1) * spacing
        score = ((centres >= 0) & (centres <= last)).all(1).astype(float)
        for _, other, taken in lesions:
            score *= (abs(centres - other) > (extents + taken) / 2 + 0.5).any(1)
        if in_lung:
            score *= _share_in_lung(tissues[0], centres, lung, spacing)
        if score.max() > 0:
            centre = centres[score.argmax()]
            for tissue in tissues:
                _draw(hu, spacing, replace(tissue, path=tissue.path + centre))
            lesions.append((label, centre, extents))
    return lesions


def _share_in_lung(
    tissue: Tissue, centres: np.ndarray, lung: np.ndarray, spacing: np.ndarray
) -> np.ndarray:
    """How much of a tissue lies in the lungs when moved to each of (n, 3) centres: (n,), 0 to 1."""
    index = ((centres[:, None] + tissue.path) / spacing).round().astype(int)
    x, y, z = np.moveaxis(index.clip(0, np.array(lung.shape[::-1]) - 1), -1, 0)
    return (lung[z, y, x] < -0.5 * tissue.axes[:2].min()).mean(1)


def _lung_lesion(
    label: int, extents: np.ndarray, look: ChestLook, rng: Generator
) -> tuple[list[Tissue], np.ndarray]:
    """Nodule to cord: tissues relative to the box's centre, outline first, and its anchor (3,)."""
    s = look.lung_separation
    drawn_out = rng.beta(1, s) if label == 1 else rng.beta(s, 1)
    half, radius = extents / 2, 0.8 + 0.06 * extents[:2].max()
    axes = half ** (1 - drawn_out) * np.minimum(half, (radius, radius, 2.5)) ** drawn_out
    t = np.linspace(-1, 1, 7)[:, None]
    path = t * rng.choice([-1, 1], 3) + rng.normal(scale=0.4, size=3) * (1 - t**2)
    path = ((path - path.min(0)) / np.ptp(path, axis=0) * 2 - 1) * (half - axes)  # fills the box
    hu, solid = rng.uniform(10, 60), rng.random() >= look.faint
    opacity = 1.0 if solid else rng.uniform(0.25, 0.6)
    tissues = [Tissue(path, axes, hu, opacity)]
    if not solid:
        tissues.append(Tissue(path[3:4], np.minimum(half * rng.uniform(0.4, 0.7), axes), hu))
    if drawn_out < 0.5:
        for lobe in rng.normal(scale=0.35, size=(3, 1, 3)).clip(-0.5, 0.5):
            tissues.append(Tissue(lobe * axes, axes * 0.55, hu, opacity))
    if rng.random() < look.calcified_cores:
        tissues.append(Tissue(path[3:4], np.minimum(half * 0.5, axes), rng.uniform(300, 900)))
    if rng.random() < look.crossing_vessels:
        along, past = rng.normal(size=3), rng.uniform(-0.7, 0.7, 3) * half
        along *= extents.max() / np.linalg.norm(along)
        vessel = np.array([past - along, past + along])
        tissues.append(Tissue(vessel, np.full(3, rng.uniform(0.6, 1.4)), 30))
    return tissues, np.zeros(3)


def _calcification(
    label: int, extents: np.ndarray, look: ChestLook, rng: Generator
) -> tuple[list[Tissue], np.ndarray]:
    """Clump in a node to arc on a vessel's wall; the anchor is the centre of the soft tissue."""
    s = look.calcium_separation
    arc = rng.beta(1, s) if label == 32 else rng.beta(s, 1)
    half, radius = extents / 2, 0.7 + 0.05 * extents[:2].max()
    axes = (0.9 * half) ** (1 - arc) * np.minimum(half, (radius, radius, half[2])) ** arc
    t = np.linspace(-1, 1, 7)
    angle = t * np.radians(20 + 75 * arc) + rng.uniform(0, 2 * np.pi)
    circle = np.stack([np.cos(angle), np.sin(angle), t * rng.choice([-1, 1])], 1)
    scale = 2 * (half - axes) / np.ptp(circle, axis=0)  # fills the box
    path = (circle - circle.min(0)) * scale - (half - axes)
    anchor = (path[0] - circle[0] * scale) * (1, 1, 0)
    anchor *= min(1, 10 / (np.linalg.norm(anchor) + 1e-6))  # a flat arc has a far centre
    tissue = np.array([*(half[:2] * rng.uniform(1.1, 1.6)), half[2] + 3])
    hu = rng.uniform(220, 400) if rng.random() < look.faint else rng.uniform(400, 1100)
    tissues = [Tissue(anchor[None], tissue, 42), Tissue(path, axes, hu, arc**0.5, blur=1.8)]
    if arc < 0.5:
        for speck in rng.normal(scale=0.35, size=(4, 1, 3)).clip(-0.5, 0.5):
            tissues.append(Tissue(speck * axes, axes * 0.5, hu, blur=1.8))
    return tissues, anchor
