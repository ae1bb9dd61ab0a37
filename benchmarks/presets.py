"""The experiments that have a name: the paper's two, and six that a laptop can run."""

from dataclasses import dataclass, field
from typing import Any

PAPER_METHODS = ("random", "lc", "ms", "en", "fusion", "all", "drla")


@dataclass(frozen=True)
class Preset:
    """What a name stands for."""

    dataset: str
    """As in ``envs_registry``."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Keywords of ``gymnasium.make`` beside the profile's."""
    methods: tuple[str, ...] = PAPER_METHODS


CONTROLS = ("frozen", "eq3")
FEATURES = {
    "network": "efficientnet_lite0", "weights": "IMAGENET1K", "trainable": "head",
    "learning_rate": 0.001, "momentum": 0.9, "update_passes": 10,
}  # fmt: skip
"""A linear layer on ImageNet features. Rate and passes are those of RANDOM's best curve on images
held out of the training sets."""

PRESETS = {
    # section 3: 3,500 + 3,500 lesions of 32^3, 3-D ResNet-50, 5 % at the start, 5 a query
    "paper-chestCT": Preset("chestCT", {"profile": "paper"}),
    # 2,230 + 2,230 photographs of 224 pixels, pretrained ResNet-50, 10 % at the start, 1 a query
    "paper-retinopathy": Preset("Retinopathy", {"profile": "paper"}),
    # generated CT: 526 + 350 lesions of 16^3, small network, the whole pool in 34 queries of 15;
    # dropout so that BALD can take part
    "embedded": Preset(
        "chestCT",
        {"profile": "embedded", "query_size": 15, "dropout": 0.2},
        (*PAPER_METHODS, *CONTROLS),
    ),
    # real fundus photographs: 1,080 + 400 of 28 pixels, small network, 5 to 20 % of the labels
    "retinamnist": Preset(
        "MedMNIST",
        {"flag": "retinamnist", "query_size": 10, "budget": 0.2, "dropout": 0.2},
        (*PAPER_METHODS, *CONTROLS),
    ),
    # the same photographs, 3 to 40 % of the labels, on frozen features
    "retinamnist-features": Preset(
        "MedMNIST",
        {"flag": "retinamnist", "initial_fraction": 0.03, "query_size": 10, "budget": 0.4}
        | FEATURES,
        (*PAPER_METHODS, *CONTROLS),
    ),
    # generated CT on frozen features of its central planes, 3 to 40 %
    "chestct-features": Preset(
        "chestCT",
        {"profile": "embedded", "initial_fraction": 0.03, "query_size": 10, "budget": 0.4}
        | FEATURES
        | {"network": "efficientnet_lite0_planes"},
        (*PAPER_METHODS, *CONTROLS),
    ),
    # generated fundus photographs of 64 pixels, grades in EyePACS' proportions, 3 to 40 %
    "retinopathy-features": Preset(
        "Retinopathy",
        {"profile": "embedded", "initial_fraction": 0.03, "query_size": 10, "budget": 0.4}
        | FEATURES,
        (*PAPER_METHODS, *CONTROLS),
    ),
    # blood cells of the BCCD photographs, 48 pixels, three very unequal classes, 1 to 10 %
    "bloodcells-features": Preset(
        "MedMNIST",
        {
            "flag": "bccd_cells", "size": 48,
            "initial_fraction": 0.01, "query_size": 5, "budget": 0.1,
        }
        | FEATURES,
        (*PAPER_METHODS, *CONTROLS),
    ),
}  # fmt: skip
