"""From a data set's name and flat keywords to an environment: what ``gymnasium.make`` calls."""

import inspect
import warnings
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from gymnasium.vector import AutoresetMode

import envs_registry
from al_gym.annotators import Annotator
from al_gym.classifier import ClassifierConfig
from al_gym.data import READERS, ImageDataset, files, phantoms
from al_gym.env import ActiveLearningEnv, EnvConfig
from al_gym.spelling import hint
from al_gym.vector import ActiveLearningVectorEnv


def make_env(
    dataset: str,
    *,
    profile: str = "auto",
    root: str | Path | None = None,
    annotator: Annotator | None = None,
    render_mode: str | None = None,
    **overrides: Any,
) -> ActiveLearningEnv:
    """Read the data and build the environment.

    Args:
        dataset: "chestCT", "Retinopathy", "MedMNIST" or "Folder".
        profile: "paper", the paper's settings on the real data; "embedded", small settings, on
            generated phantoms unless ``root`` is given; "auto", the paper's where the data is
            found, else embedded with a warning. MedMNIST and Folder have but one set of settings.
        root: folder of the data; None: ``$AL_GYM_DATA/<dataset>``.
        annotator: see ``ActiveLearningEnv``.
        render_mode: see ``ActiveLearningEnv``.
        **overrides: fields of ``EnvConfig`` and ``ClassifierConfig``, arguments of the reader.

    Raises:
        TypeError: an unknown keyword; names the nearest.
        ValueError: an unknown data set or profile, or values that do not fit.
        FileNotFoundError: the data is not there.
    """
    images, config, classifier = _ingredients(dataset, profile, root, overrides)
    return ActiveLearningEnv(
        images, config, classifier, annotator=annotator, render_mode=render_mode
    )


def make_vector_env(
    dataset: str,
    *,
    num_envs: int = 1,
    profile: str = "auto",
    root: str | Path | None = None,
    annotator: Annotator | None = None,
    render_mode: str | None = None,
    autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
    **overrides: Any,
) -> ActiveLearningVectorEnv:
    """Read the data once and build ``num_envs`` environments on it.

    Args:
        dataset: as of ``make_env``, like all that is not named here.
        num_envs: K.
        profile: see ``make_env``.
        root: see ``make_env``.
        annotator: see ``ActiveLearningVectorEnv``.
        render_mode: see ``ActiveLearningEnv``.
        autoreset_mode: see ``ActiveLearningVectorEnv``.
        **overrides: fields of ``EnvConfig`` and ``ClassifierConfig``, arguments of the reader.
    """
    images, config, classifier = _ingredients(dataset, profile, root, overrides)
    return ActiveLearningVectorEnv(
        num_envs, images, config, classifier,
        annotator=annotator, render_mode=render_mode, autoreset_mode=autoreset_mode,
    )  # fmt: skip


def _ingredients(
    dataset: str, profile: str, root: str | Path | None, overrides: dict[str, Any]
) -> tuple[ImageDataset, EnvConfig, ClassifierConfig]:
    """The images and the settings that keywords stand for."""
    from_profile, root = _choose(dataset, profile, root)
    settings = {**from_profile, **overrides}
    env_names = [field.name for field in fields(EnvConfig)]
    classifier_names = [field.name for field in fields(ClassifierConfig)]
    reader_names = list(inspect.signature(READERS[dataset]).parameters)[1:]
    _refuse_unknown(settings, [*env_names, *classifier_names, *reader_names])
    # settings are checked before minutes are spent on reading
    config = EnvConfig(**_only(settings, env_names))
    classifier = ClassifierConfig(**_only(settings, classifier_names))
    return READERS[dataset](root, **_only(settings, reader_names)), config, classifier


def _choose(
    dataset: str, profile: str, root: str | Path | None
) -> tuple[dict[str, Any], str | Path | None]:
    """The settings of the profile to use, and the folder to read."""
    profiles = envs_registry.profiles(dataset)
    if profile not in ("auto", *profiles):
        raise ValueError(f"{dataset} has no profile {profile!r}; choose from {['auto', *profiles]}")
    if dataset not in phantoms.GENERATORS:
        return profiles["embedded"], root
    if profile == "auto":
        folder = files.data_folder(dataset)
        if root is not None or (folder is not None and folder.is_dir()):
            profile = "paper"
        else:
            profile = "embedded"
            warnings.warn(
                f"{dataset}: no real data found, so this is the embedded profile: generated "
                "phantoms and a small network. For the real data pass root=, or set AL_GYM_DATA "
                f"to a folder that holds {dataset}/ (see the README); profile='embedded' chooses "
                "the phantoms without this warning.",
                stacklevel=4,
            )
    if profile == "embedded" and root is None:
        root = phantoms.folder(dataset, *envs_registry.PHANTOMS[dataset])
    return profiles[profile], root


def _refuse_unknown(settings: Iterable[str], known: list[str]) -> None:
    for name in settings:
        if name not in known:
            suggestion = hint(name, known) or f"; known are {sorted(known)}"
            raise TypeError(f"unknown keyword {name!r}{suggestion}")


def _only(settings: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name in names}
