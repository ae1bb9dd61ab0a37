"""Settings of the task and of the classifier. Importing them imports no torch."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np

STARTS = ("stratified", "random", "typical", "known")
"""Ways to choose the initial labelled set, see ``EnvConfig.initial_set``."""


@dataclass(frozen=True)
class EnvConfig:
    """The task. What the classifier does is in ``ClassifierConfig``."""

    initial_fraction: float = 0.05
    """Share of each class that is labelled at the start, at least one sample a class; with
    ``initial_set`` "random" or "typical", share of the training set."""
    query_size: int = 5
    """n_s, samples annotated in a step."""
    budget: float | int = 1.0
    """What may be labelled in the end, the initial set included: a float is a share of the training
    set, an int a number of images."""
    reward: str | Callable[..., float] = "misclassification"
    """A name in ``al_gym.rewards.REWARDS``, a function of ``rewards.Outcome``, or its import path,
    ``"package.module:name"``."""
    reward_timing: Literal["before_update", "after_update"] = "before_update"
    """Whose predictions Eq. 3 judges: those in S, as r(S, a) is written, or those of the updated
    classifier, as one may read Algorithm 1, line 6."""
    labelled_rows: Literal["zero", "predict"] = "zero"
    """Rows of annotated samples in the observation: zero, or still predicted."""
    validation_fraction: float | None = None
    """Share of each class held out of the training set for rewards that need it; None: 0.1 for
    those, 0 for the others. The images are the same for every seed."""
    label_noise: float = 0.0
    """Probability that the built-in annotator is wrong. An initial set that is "stratified" or
    "known" has the data set's labels all the same."""
    eval_every: int = 1
    """Steps between two looks at the test set; there is always one at the start and the end."""
    resample_initial: bool = False
    """Draw a new initial set at every reset; otherwise only at one with a seed."""
    initial_size: int | None = None
    """Images labelled at the start, in place of ``initial_fraction``; 0: none. "stratified" divides
    them among the classes in proportion, see ``al_gym.pool.proportional_counts``."""
    initial_set: str = "stratified"
    """Which images are labelled at the start. By the labels of the data set: "stratified", drawn
    class by class; "known", all training images whose label is known. Asked of the annotator, so
    that a class may be absent: "random"; "typical", those nearest to the centres of k-means
    clusters of the untrained classifier's features; or the path of a csv file whose column ``file``
    lists ``ImageDataset.names``."""
    skip_cost: float = 1.0
    """What an image that the annotator skips takes from the budget, in labels. Above 1, skips in
    the last query may exceed the budget."""

    def __post_init__(self) -> None:
        """Check every value; numbers of NumPy become Python's, and paths strings.

        Raises:
            ValueError: naming the setting and what it may be.
        """
        for field in fields(self):
            object.__setattr__(self, field.name, plain(getattr(self, field.name)))
        check_between("initial_fraction", self.initial_fraction, 0, 1)
        if self.initial_size is not None:
            check_at_least("initial_size", self.initial_size, 0)
        if isinstance(self.budget, int):
            check_at_least("budget", self.budget, 1)
        else:
            check_between("budget", self.budget, 0, 1, upper_included=True)
        check_between("skip_cost", self.skip_cost, 0, float("inf"), lower_included=True)
        check_between("label_noise", self.label_noise, 0, 1, True, True)
        if self.validation_fraction is not None:
            check_between("validation_fraction", self.validation_fraction, 0, 1, True)
        check_at_least("query_size", self.query_size, 1)
        check_at_least("eval_every", self.eval_every, 1)
        check_one_of("reward_timing", self.reward_timing, ("before_update", "after_update"))
        check_one_of("labelled_rows", self.labelled_rows, ("zero", "predict"))
        check_bool("resample_initial", self.resample_initial)
        if not isinstance(self.reward, str) and not callable(self.reward):
            raise ValueError(f"reward must be a name or a function, not {self.reward!r}")
        is_path = isinstance(self.initial_set, str) and self.initial_set.lower().endswith(".csv")
        if self.initial_set not in STARTS and not is_path:
            raise ValueError(
                f"initial_set must be one of {STARTS} or the path of a .csv file, "
                f"not {self.initial_set!r}"
            )
        if self.initial_size is not None and (self.initial_set == "known" or is_path):
            raise ValueError(
                f"initial_size={self.initial_size} and initial_set={self.initial_set!r} both say "
                "how many images are labelled at the start; give one of the two"
            )


@dataclass(frozen=True)
class ClassifierConfig:
    """How the classifier is built, pretrained and updated. The defaults are the paper's."""

    network: Any = "auto"
    """Name of an architecture, a module, a function (channels, n_classes) -> module, or the import
    path of one of both, ``"package.module:name"``; "auto" is the small network of the images'
    dimension. See ``al_gym.classifiers.architectures.build``."""
    weights: str | None = None
    """Pretrained weights by torchvision's name, such as "IMAGENET1K_V1", or "IMAGENET1K" for
    efficientnet_lite0; None: random."""
    trainable: Literal["all", "head"] = "all"
    """"head" freezes the backbone (batch norm in evaluation mode), keeps its features, and trains
    the linear layer on them. A backbone without pretrained weights is then the same for every seed.
    """
    update: Literal["warm", "scratch"] = "warm"
    """Train on from the current weights, or re-initialise before every update."""
    optimizer: Literal["sgd", "adam", "adamw", "newton"] = "sgd"
    """PyTorch's; Adam with its usual moments (0.9, 0.999). A new initialisation forgets them.
    "newton", with ``trainable="head"`` only, trains to convergence on all labels at once: logistic
    regression with an L2 penalty, see ``al_gym.classifiers.newton``. What is labelled alone then
    decides the weights; ``update``, ``learning_rate``, ``momentum``, ``batch_size`` and the numbers
    of passes, unless they are 0, have no meaning."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Of the learning rate: "cosine" takes it from ``learning_rate`` to 0 over the gradient steps
    of each training, be it pretraining or an update, which is a warm restart (Loshchilov and
    Hutter, SGDR, 2017)."""
    pretrain_passes: int = 30
    """Passes over the initial labelled set; also those of ``update="scratch"``."""
    update_passes: int = 1
    """Passes over the labelled set after a query, with ``update="warm"``."""
    learning_rate: float = 1e-4
    """Of the optimizer; Adam wants another one than SGD."""
    momentum: float = 0.0
    """Of SGD, and without a meaning for Adam; the paper does not say."""
    weight_decay: float = 0.0
    """Part of the gradient, with "adamw" apart from it; the paper does not say. With "newton" the
    loss has the penalty ``weight_decay / 2 * |weight|^2``, which spares the bias and must not be 0;
    scikit-learn's C is 1 / (n * weight_decay), and with ``loss_reduction="sum"`` 1 / weight_decay.
    """
    loss_reduction: Literal["mean", "sum"] = "mean"
    """The loss of a batch: the mean of its samples' cross-entropies, which is the custom, or their
    sum, which is Eq. 1. With plain SGD the sum is the mean at a learning rate that is as many times
    as high as a batch has samples: the paper's 1e-4 is meant for the sum, and with the mean hardly
    trains."""
    class_weights: Literal["balanced"] | tuple[float, ...] | None = None
    """Weights of the classes in the cross-entropy, one positive number a class; the mean of a batch
    is then the weighted one, as PyTorch's. "balanced": n / (m * n_j) for a class with n_j
    of the n samples labelled now, m being the number of classes that have one; the others get 1,
    which nothing is multiplied by. None: all count alike."""
    augmentation: Any = ()
    """What happens to the images of a training batch: names in
    ``al_gym.classifiers.augmentation.AUGMENTATIONS``, applied in their order ("flip", "shift",
    "intensity"), a function of normalised images (B, C, [D,] H, W) float32 on the device to as many
    of the same shape, such as a transform of torchvision.transforms.v2 (which draws once a batch),
    or its import path, ``"package.module:name"``. Not with ``trainable="head"``, whose features are
    computed once."""
    early_stopping: int | None = None
    """Patience in passes: training ends after so many passes in a row without a smaller
    cross-entropy (unweighted) on ``ImageDataset.validation``, and goes back to its best pass; None:
    it does not end early. The state before the first pass is not among them, so that with
    ``update_passes=1`` there is nothing to stop."""
    dropout: float = 0.0
    """Probability of dropout before the last layer, in training; 0: none is added."""
    batch_size: int = 16
    """Most samples in a training batch, at least 3. A pass is divided into batches of nearly equal
    size: batch norm cannot be trained on one sample, and is thrown off by a last batch of few."""
    inference_batch_size: int | None = None
    """None: chosen from the size of an image and the device."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """"tf32" lets CUDA round the factors of convolutions to 10 bits; "bf16" runs the network under
    autocast, which changes probabilities by up to 2e-2. On the CPU volumes are still trained on in
    fp32: for 3 x 3 x 3 convolutions of 2 x 2 x 2 voxels, where deep networks end, PyTorch 2.14's
    bf16 gradient of the weights has values of memory that was never written."""
    channels_last: bool | None = None
    """Memory layout of the activations; None: on where it pays, which is everywhere but
    for volumes below 32^3 voxels on the CPU."""
    device: str = "auto"
    """"cpu", "cuda[:n]", "mps", or "auto": CUDA where there is one, otherwise the CPU. "mps" is not
    tested on such a machine; it takes fp32 only, records no steps, and promises no equal bits."""
    deterministic: bool = True
    """Only repeatable kernels on CUDA. The CPU is always repeatable."""
    images: Literal["auto", "device", "host"] = "auto"
    """Where the images lie: on the "device", or on the "host", from where batches are streamed;
    "auto": on the device if they take at most half of its free memory."""
    cuda_graphs: bool = True
    """Record the training step on CUDA and replay it; not of networks with dropout, nor of the
    user's own, which may draw random numbers or wait for the device; and only of SGD at a constant
    rate, as others keep numbers outside the device."""

    def __post_init__(self) -> None:
        """Check every value; numbers of NumPy become Python's.

        Raises:
            ValueError: naming the setting and what it may be.
        """
        for field in fields(self):
            object.__setattr__(self, field.name, plain(getattr(self, field.name)))
        check_one_of("trainable", self.trainable, ("all", "head"))
        check_one_of("update", self.update, ("warm", "scratch"))
        check_one_of("precision", self.precision, ("fp32", "tf32", "bf16"))
        check_one_of("images", self.images, ("auto", "device", "host"))
        check_one_of("optimizer", self.optimizer, ("sgd", "adam", "adamw", "newton"))
        check_one_of("schedule", self.schedule, ("constant", "cosine"))
        check_one_of("loss_reduction", self.loss_reduction, ("mean", "sum"))
        check_at_least("pretrain_passes", self.pretrain_passes, 0)
        check_at_least("update_passes", self.update_passes, 0)
        check_at_least("batch_size", self.batch_size, 3)
        if self.inference_batch_size is not None:
            check_at_least("inference_batch_size", self.inference_batch_size, 1)
        check_between("dropout", self.dropout, 0, 1, lower_included=True)
        check_between("learning_rate", self.learning_rate, 0, float("inf"))
        check_between("momentum", self.momentum, 0, 1, lower_included=True)
        check_between("weight_decay", self.weight_decay, 0, float("inf"), lower_included=True)
        if self.early_stopping is not None:
            check_at_least("early_stopping", self.early_stopping, 1)
        self._check_class_weights()
        self._check_augmentation()
        if self.optimizer == "newton":
            self._check_newton()

    def _check_class_weights(self) -> None:
        given: Any = self.class_weights
        if given is None or (isinstance(given, str) and given == "balanced"):
            return
        if not isinstance(given, (list, tuple)):
            raise ValueError(
                f"class_weights must be None, 'balanced' or one number a class, not {given!r}"
            )
        for i, weight in enumerate(given):
            check_between(f"class_weights[{i}]", weight, 0, float("inf"))
        object.__setattr__(self, "class_weights", tuple(map(float, given)))

    def _check_augmentation(self) -> None:
        given = self.augmentation
        if isinstance(given, str) and ":" not in given:
            given = (given,)
        if isinstance(given, (list, tuple)):
            for name in given:
                check_one_of("augmentation", name, ("flip", "shift", "intensity"))
            object.__setattr__(self, "augmentation", tuple(given))
        elif not (isinstance(given, str) or callable(given)):
            raise ValueError(
                "augmentation must be names, a function of images or its import path, "
                f"not {given!r}"
            )
        if self.augmentation and self.trainable == "head":
            raise ValueError(
                "augmentation does not go with trainable='head': the features of every image are "
                "computed once, and training sees no images. Leave it out, or take trainable='all'"
            )

    def _check_newton(self) -> None:
        problem = None
        if self.trainable != "head":
            problem = "trains linear heads only; set trainable='head'"
        elif self.weight_decay == 0:
            problem = (
                "needs weight_decay > 0, such as 0.1: without a penalty classes that can be "
                "separated have no best weights"
            )
        elif self.dropout > 0:
            problem = f"has no batches for dropout={self.dropout}; leave it out"
        elif self.early_stopping is not None:
            problem = f"has no passes for early_stopping={self.early_stopping}; leave it out"
        elif self.schedule != "constant":
            problem = f"has no learning rate for schedule={self.schedule!r}; leave it out"
        elif self.device.startswith("mps"):
            problem = f"needs float64, which device={self.device!r} has not; take 'cpu'"
        if problem is not None:
            raise ValueError(f"optimizer='newton' {problem}")


def check_one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise a ValueError that names the setting unless its value is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {allowed}, not {value!r}")


def check_bool(name: str, value: Any) -> None:
    """Raise a ValueError that names the setting unless it is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, not {value!r}")


def check_at_least(name: str, value: Any, least: int) -> None:
    """Raise a ValueError that names the setting unless it is an integer from ``least`` on."""
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_integer:
        raise ValueError(f"{name} must be an integer, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")


def check_between(
    name: str,
    value: Any,
    low: float,
    high: float,
    lower_included: bool = False,
    upper_included: bool = False,
) -> None:
    """Raise a ValueError that names the setting unless its value lies between two others."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number:
        raise ValueError(f"{name} must be a number, not {value!r}")
    above = value >= low if lower_included else value > low
    below = value <= high if upper_included else value < high
    if not (above and below):
        interval = f"{'[' if lower_included else '('}{low}, {high}{']' if upper_included else ')'}"
        raise ValueError(f"{name} must lie in {interval}, not {value}")


def parsed_setting(setting: str, taker: str) -> tuple[str, Any]:
    """Key and value of ``"key=value"``: JSON where the value can be read as JSON, otherwise text.

    Args:
        setting: from a command line.
        taker: what takes it, for the error.

    Raises:
        ValueError: there is no "=" in it.
    """
    key, equals, value = setting.partition("=")
    if not key or not equals:
        raise ValueError(f"{taker} takes key=value, not {setting!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def plain(value: Any) -> Any:
    """What JSON can hold, also within lists, tuples and dictionaries; anything else as it is.

    Numbers of NumPy's become Python's, paths strings, and members of an enumeration their values.
    """
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return list(map(plain, value)) if isinstance(value, list) else tuple(map(plain, value))
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return float(value) if isinstance(value, Real) else value
