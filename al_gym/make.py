"""From a data set's name and flat keywords to an environment: what ``gymnasium.make`` calls."""

import importlib.util
import inspect
import logging
import warnings
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium import wrappers

import envs_registry
from al_gym.annotators import Annotator
from al_gym.config import ClassifierConfig, EnvConfig, check_at_least
from al_gym.data import READERS, ImageDataset, files, phantoms
from al_gym.env import ActiveLearningEnv, check_render_mode
from al_gym.import_paths import imported
from al_gym.names import hint, lookup
from al_gym.vector import ActiveLearningVectorEnv, AutoresetMode

Reader = Callable[..., ImageDataset]
logger = logging.getLogger(__name__)
"""Says the notes of a reader, on the standard error output unless logging is set up otherwise."""

OF_MAKE = "of gymnasium.make, and of make_vec with vectorization_mode='sync' or 'async'"
OF_MAKE_VEC = "of gymnasium.make_vec"
OF_GYMNASIUM = {
    "max_episode_steps": OF_MAKE, "disable_env_checker": OF_MAKE,
    "vectorization_mode": OF_MAKE_VEC, "vector_kwargs": OF_MAKE_VEC, "wrappers": OF_MAKE_VEC,
}  # fmt: skip
"""Arguments that Gymnasium hands on as settings where they are not its own."""


def make_env(
    dataset: str,
    *,
    profile: str = "auto",
    root: str | Path | None = None,
    annotator: Annotator | str | None = None,
    reader: Reader | str | None = None,
    n_phantoms: int | None = None,
    flatten: bool = False,
    render_mode: str | None = None,
    **overrides: Any,
) -> gym.Env[Any, Any]:
    """Read the data and build the environment.

    Args:
        dataset: "chestCT", "Retinopathy", "MedMNIST" or "Folder".
        profile: "paper", the paper's settings on the real data; "embedded", small settings, on
            generated phantoms unless ``root`` is given; "auto", the paper's where the data is
            found, else embedded with a warning. MedMNIST and Folder have but one set of settings.
        root: folder of the data; None: ``$AL_GYM_DATA/<dataset>``.
        annotator: see ``ActiveLearningEnv``; or the import path, ``"package.module:name"``, of an
            annotator or of a function that makes one from the ``ImageDataset``.
        reader: a function ``(root, **keywords) -> ImageDataset`` in place of the data set's own, or
            its import path; it then gets the keywords that its signature names.
        n_phantoms: scans or photographs to generate where there is no ``root``; None: as many as
            the embedded profile needs.
        flatten: give S as a vector, (n_u * M,), through Gymnasium's ``FlattenObservation``: for
            RLlib, which takes no matrices. Strategies and ``ContextObservation`` need the matrix,
            and Gymnasium's wrapper cannot be pickled.
        render_mode: see ``ActiveLearningEnv``; also "human", a window (extra ``render``), and
            "rgb_array_list" or "ansi_list", all since the last call, through Gymnasium's
            ``HumanRendering`` and ``RenderCollection``.
        **overrides: fields of ``EnvConfig`` and ``ClassifierConfig``, arguments of the reader.

    Networks and rewards of one's own can be given by import path too, so that an environment can be
    made from a specification in JSON.

    PyTorch's threads are as the caller has them. Where other processes want the cores, a
    step takes half the time if ``OMP_WAIT_POLICY=PASSIVE`` was set before Python started, or with
    one thread (``benchmarks.waiting``).

    Raises:
        TypeError: an unknown keyword; names the nearest.
        ValueError: an unknown data set or profile, or values that do not fit.
        FileNotFoundError: the data is not there.
        gymnasium.error.DependencyNotInstalled: a window without pygame.
    """
    own_mode, in_a_window, collected = _rendering(render_mode)  # before minutes of reading
    images, config, classifier_config = ingredients(
        dataset, profile, root, reader, n_phantoms, overrides
    )
    env: gym.Env[Any, Any] = ActiveLearningEnv(
        images, config, classifier_config,
        annotator=_annotator(annotator, images), render_mode=own_mode,
    )  # fmt: skip
    if flatten:
        env = wrappers.FlattenObservation(env)
    if in_a_window:
        env = wrappers.HumanRendering(env)
    return wrappers.RenderCollection(env) if collected else env


def make_vector_env(
    dataset: str,
    *,
    num_envs: int = 1,
    profile: str = "auto",
    root: str | Path | None = None,
    annotator: Annotator | str | None = None,
    reader: Reader | str | None = None,
    n_phantoms: int | None = None,
    flatten: bool = False,
    render_mode: str | None = None,
    autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
    **overrides: Any,
) -> gym.vector.VectorEnv[Any, Any, Any]:
    """Read the data once and build ``num_envs`` environments on it.

    Args:
        dataset: as of ``make_env``, like all that is not named here.
        num_envs: K.
        profile: see ``make_env``.
        root: see ``make_env``.
        annotator: see ``make_env``; one for all of them.
        reader: see ``make_env``.
        n_phantoms: see ``make_env``.
        flatten: give each S as a vector, see ``make_env``; not with "SameStep", for which
            Gymnasium's wrapper is not made.
        render_mode: see ``ActiveLearningEnv``; a window, or a list, is of one environment.
        autoreset_mode: see ``ActiveLearningVectorEnv``.
        **overrides: fields of ``EnvConfig`` and ``ClassifierConfig``, arguments of the reader.

    Raises:
        ValueError: ``flatten`` with "SameStep", a window or a list, or what ``make_env`` refuses.
    """
    if flatten and AutoresetMode(autoreset_mode) is AutoresetMode.SAME_STEP:
        raise ValueError("flatten=True goes with autoreset_mode 'NextStep' or 'Disabled' only")
    own_mode, in_a_window, collected = _rendering(render_mode)
    if in_a_window or collected:
        raise ValueError(
            f"render_mode={render_mode!r} is of one environment: take vectorization_mode='sync', "
            f"or one of {ActiveLearningEnv.metadata['render_modes']}"
        )
    images, config, classifier_config = ingredients(
        dataset, profile, root, reader, n_phantoms, overrides
    )
    envs: gym.vector.VectorEnv[Any, Any, Any] = ActiveLearningVectorEnv(
        num_envs, images, config, classifier_config,
        annotator=_annotator(annotator, images), render_mode=own_mode,
        autoreset_mode=autoreset_mode,
    )  # fmt: skip
    return wrappers.vector.FlattenObservation(envs) if flatten else envs


def ingredients(
    dataset: str,
    profile: str,
    root: str | Path | None,
    reader: Reader | str | None,
    n_phantoms: int | None,
    overrides: dict[str, Any],
) -> tuple[ImageDataset, EnvConfig, ClassifierConfig]:
    """The images and the settings that keywords of ``make_env`` stand for; raises what it does."""
    if reader is None:
        from_profile, root = _choose(dataset, profile, root, n_phantoms)
        read = READERS[dataset]
    else:
        from_profile = envs_registry.profiles(dataset)["embedded"]
        read = imported(reader) if isinstance(reader, str) else reader
    env_names = [field.name for field in fields(EnvConfig)]
    classifier_names = [field.name for field in fields(ClassifierConfig)]
    reader_names = list(inspect.signature(read).parameters)[1:]
    known = [*env_names, *classifier_names, *reader_names]
    if reader is not None:  # the profile may name arguments of the data set's own reader
        from_profile = {name: value for name, value in from_profile.items() if name in known}
    settings = {**from_profile, **overrides}
    _refuse_unknown(settings, known)
    # settings are checked before minutes are spent on reading
    config = EnvConfig(**_only(settings, env_names))
    classifier_config = ClassifierConfig(**_only(settings, classifier_names))
    images = read(root, **_only(settings, reader_names))
    if not isinstance(images, ImageDataset):
        raise TypeError(f"the reader {reader!r} returned no ImageDataset but {type(images)}")
    for note in images.notes:
        logger.warning("%s: %s", images.source, note)
    return images, config, classifier_config


def _rendering(render_mode: str | None) -> tuple[str | None, bool, bool]:
    """The environment's own mode, whether it is shown in a window, and whether it is collected."""
    if render_mode == "human":
        if importlib.util.find_spec("pygame") is None:
            raise gym.error.DependencyNotInstalled(
                "render_mode='human' opens a window of pygame's: pip install al-gym[render]"
            )
        return "rgb_array", True, False
    own = None if render_mode is None else render_mode.removesuffix("_list")
    check_render_mode(own)
    return own, False, own != render_mode


def _annotator(annotator: Annotator | str | None, images: ImageDataset) -> Annotator | None:
    """The annotator that is given, imported, or made."""
    if not isinstance(annotator, str):
        return annotator
    found: Any = imported(annotator)
    if isinstance(found, type) or not hasattr(found, "annotate"):
        found = found(images)
    made: Annotator = found
    return made


def _choose(
    dataset: str, profile: str, root: str | Path | None, n_phantoms: int | None
) -> tuple[dict[str, Any], str | Path | None]:
    """The settings of the profile to use, and the folder to read."""
    profiles = envs_registry.profiles(dataset)
    lookup(f"profile of {dataset}", profile, {"auto": None, **profiles})
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
        amount, seed = envs_registry.PHANTOMS[dataset]
        if n_phantoms is not None:
            check_at_least("n_phantoms", n_phantoms, 1)
            amount = n_phantoms
        root = phantoms.folder(dataset, amount, seed)
    return profiles[profile], root


def _refuse_unknown(settings: Iterable[str], known: list[str]) -> None:
    for name in settings:
        if name not in known:
            belongs = f"; it is an argument {OF_GYMNASIUM[name]}" if name in OF_GYMNASIUM else ""
            suggestion = belongs or hint(name, known) or f"; known are {sorted(known)}"
            raise TypeError(f"make_env() got an unexpected keyword argument {name!r}{suggestion}")


def _only(settings: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name in names}
