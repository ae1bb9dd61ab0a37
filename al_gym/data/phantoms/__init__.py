"""Generated stand-ins for chestCT and Retinopathy, in the on-disk formats of the real data sets.

They pass through the same readers; nothing measured on them says anything about patients.

Test macro F1 of the default small classifiers, as ``envs_registry`` sets them up:
chestCT, 526 training lesions of 16^3 voxels: 0.60 after 5 % of the labels, 0.74 after all (mean
of 8 seeds). Retinopathy, 556 training images of 64 pixels: 0.48 and 0.88 (mean of 8 seeds).

Command line::

    python -m al_gym.data.phantoms chestct --out DIR --scans 64 --seed 0
    python -m al_gym.data.phantoms retinopathy --out DIR --images 1000 --seed 0
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

from al_gym import durable
from al_gym.data import cache
from al_gym.data.phantoms import chest, fundus
from al_gym.data.phantoms.chest import ChestLook, write_chestct
from al_gym.data.phantoms.fundus import FundusLook, write_retinopathy

__all__ = [
    "GENERATORS",
    "VERSIONS",
    "ChestLook",
    "FundusLook",
    "folder",
    "write_chestct",
    "write_retinopathy",
]

GENERATORS: dict[str, Callable[..., None]] = {
    "chestCT": write_chestct,
    "Retinopathy": write_retinopathy,
}
"""Name of a data set -> the function (folder, amount, seed, look=...) that writes its stand-in."""
VERSIONS = {"chestCT": chest.VERSION, "Retinopathy": fundus.VERSION}
"""Name of a data set -> the version of its generator."""


def folder(
    dataset: str, amount: int, seed: int, look: ChestLook | FundusLook | None = None
) -> Path:
    """The folder of generated stand-ins in the cache, written now if they are not there yet.

    Args:
        dataset: a name in ``GENERATORS``.
        amount: number of scans or photographs.
        seed: decides all of them.
        look: of other ones than the usual; the generator's own class.
    """
    place = cache.cache_folder() / "phantoms"
    name = f"{dataset}-{amount}-seed{seed}-v{VERSIONS[dataset]}"
    looks = {}
    if look is not None:
        looks["look"] = look
        name += "-" + hashlib.sha256(repr(look).encode()).hexdigest()[:12]
    path = place / name
    if place.is_dir():
        durable.sweep(place)
    if not path.is_dir():
        with durable.writing(path) as unfinished:
            GENERATORS[dataset](unfinished, amount, seed, **looks)
    return path
