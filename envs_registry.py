"""Every environment id and the settings behind it, in one table. Importing it registers them.

The paper profiles hold what the paper says (3.2); the embedded ones make the same task small enough
to answer at once on a laptop: generated phantoms in the real data's file formats, a small network,
and the learning rate that such a network needs.
"""

from typing import Any

import gymnasium as gym

ENTRY_POINT = "al_gym.make:make_env"
"""What ``gymnasium.make`` calls."""
VECTOR_ENTRY_POINT = "al_gym.make:make_vector_env"
"""What ``gymnasium.make_vec`` calls."""

DATASETS: dict[str, dict[str, dict[str, Any]]] = {
    "chestCT": {
        "paper": {
            "n_train": 3500,
            "n_test": 3500,
            "patch_size": 32,
            "initial_fraction": 0.05,
            "query_size": 5,
            "network": "resnet50_3d",
            "learning_rate": 1e-4,
            "loss_reduction": "sum",  # Eq. 1
        },
        "embedded": {
            "n_train": 526,
            "n_test": 350,
            "patch_size": 16,
            "initial_fraction": 0.05,
            "query_size": 5,
            "network": "small3d",
            "learning_rate": 0.005,
            "momentum": 0.9,
        },
    },
    "Retinopathy": {
        "paper": {
            "n_train": 2230,
            "n_test": 2230,
            "image_size": 224,
            "initial_fraction": 0.10,
            "query_size": 1,
            "network": "resnet50",
            "weights": "IMAGENET1K_V1",
            "learning_rate": 1e-4,
            "loss_reduction": "sum",  # Eq. 1
        },
        "embedded": {
            "n_train": 556,
            "n_test": 350,
            "image_size": 64,
            "initial_fraction": 0.10,
            "query_size": 5,
            "network": "small2d",
            "learning_rate": 0.02,
            "momentum": 0.9,
        },
    },
    "MedMNIST": {
        "embedded": {"network": "auto", "learning_rate": 0.01, "momentum": 0.9},
    },
    "Folder": {
        "embedded": {"network": "auto", "learning_rate": 0.01, "momentum": 0.9},
    },
}
"""Name of a data set -> the settings of each profile it has. The id follows from the name."""

PHANTOMS = {"chestCT": (64, 0), "Retinopathy": (1000, 0)}
"""Number of scans or images, and the seed, of the phantoms of the embedded profiles."""


def env_id(dataset: str) -> str:
    """The id of the environment over a data set: ``ActiveLearning-<dataset>-v0``."""
    return f"ActiveLearning-{dataset}-v0"


def profiles(dataset: str) -> dict[str, dict[str, Any]]:
    """Profile name -> settings, of a data set.

    Raises:
        ValueError: no such data set.
    """
    if dataset not in DATASETS:
        raise ValueError(f"unknown data set {dataset!r}, choose from {sorted(DATASETS)}")
    return DATASETS[dataset]


def register_envs() -> None:
    """Register every id with Gymnasium; calling it again changes nothing."""
    for dataset in DATASETS:
        if env_id(dataset) not in gym.registry:
            gym.register(
                env_id(dataset),
                entry_point=ENTRY_POINT,
                vector_entry_point=VECTOR_ENTRY_POINT,
                kwargs={"dataset": dataset},
            )


register_envs()
