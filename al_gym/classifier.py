"""The classifier: training and inference with the data set resident on the device.

The images are one tensor in their storage type; a batch is an index into it, converted and
normalised where it lies. ``al_gym.heads`` has the classifier of ``trainable="head"``, and
``make_classifiers`` chooses.
"""

import abc
import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from al_gym import networks
from al_gym.counters import Counters
from al_gym.graphs import GraphedStep
from al_gym.images import DeviceImages, Place, split, split_evenly

INFERENCE_VALUES = {"cpu": 2**19, "cuda": 2**27}
"""Input values in one inference batch: what stays near the cache, or fills a GPU."""
CPU_IMAGES = 64
"""Most images in an inference batch on the CPU: the activations of more leave the cache, which cost
a third of the speed on images of 28 pixels and of 16^3 voxels."""


DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
"""Layers that Monte Carlo dropout leaves on."""


@dataclass(frozen=True)
class ClassifierConfig:
    """How the classifier is built, pretrained and updated. The defaults are the paper's."""

    network: Any = "auto"
    """Name of an architecture, a module, or a function (channels, n_classes) -> module; "auto" is
    the small network of the images' dimension. See ``al_gym.networks.build``."""
    weights: str | None = None
    """Pretrained weights by torchvision's name, such as "IMAGENET1K_V1", or "IMAGENET1K" for
    efficientnet_lite0; None: random."""
    trainable: Literal["all", "head"] = "all"
    """"head" freezes the backbone (batch norm in evaluation mode), keeps its features, and trains
    the linear layer on them. A backbone without pretrained weights is then the same for every seed.
    """
    update: Literal["warm", "scratch"] = "warm"
    """Train on from the current weights, or re-initialise before every update."""
    pretrain_passes: int = 30
    """Passes over the initial labelled set; also those of ``update="scratch"`` and of ALL."""
    update_passes: int = 1
    """Passes over the labelled set after a query, with ``update="warm"``."""
    learning_rate: float = 1e-4
    """Of SGD."""
    momentum: float = 0.0
    """Of SGD; the paper does not say."""
    weight_decay: float = 0.0
    """Of SGD; the paper does not say."""
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
    """"auto": CUDA where there is one."""
    deterministic: bool = True
    """Only repeatable kernels on CUDA. The CPU is always repeatable."""
    images: Place = "auto"
    """Where the images lie: on the "device", or on the "host", from where batches are streamed;
    "auto": on the device if they take at most half of its free memory."""
    cuda_graphs: bool = True
    """Record the training step on CUDA and replay it; not of networks with dropout, nor of the
    user's own, which may draw random numbers or wait for the device."""

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: naming the setting and what it may be.
        """
        _one_of("trainable", self.trainable, ("all", "head"))
        _one_of("update", self.update, ("warm", "scratch"))
        _one_of("precision", self.precision, ("fp32", "tf32", "bf16"))
        _one_of("images", self.images, ("auto", "device", "host"))
        _at_least("pretrain_passes", self.pretrain_passes, 0)
        _at_least("update_passes", self.update_passes, 0)
        _at_least("batch_size", self.batch_size, 3)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), not {self.dropout}")
        if self.inference_batch_size is not None:
            _at_least("inference_batch_size", self.inference_batch_size, 1)
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, not {self.learning_rate}")


@dataclass(frozen=True)
class Snapshot:
    """The weights of a ``Classifier`` at one moment, copied."""

    weights: dict[str, Tensor]
    """Of the part that learns, batch-norm statistics included."""
    momentum: list[Tensor | None]
    """The optimiser's, parameter by parameter; None before the first step, or without momentum."""


class Classifier(abc.ABC):
    """What the environment asks of a classifier: a whole network's, or a linear head's."""

    config: ClassifierConfig
    device: torch.device
    counters: Counters
    """Of the work done for this classifier; the environment begins new ones with every step."""

    @property
    @abc.abstractmethod
    def is_random(self) -> bool:
        """Whether there is dropout: training then draws more than the order of the samples."""

    @property
    @abc.abstractmethod
    def n_features(self) -> int:
        """F, the size of the penultimate layer."""

    @abc.abstractmethod
    def initialise(self, rng: np.random.Generator) -> None:
        """Draw new weights and start a new optimiser. ``rng`` decides the weights."""

    @abc.abstractmethod
    def fit(
        self, rows: np.ndarray, labels: np.ndarray, passes: int, rng: np.random.Generator
    ) -> None:
        """Minimise the cross-entropy (Eq. 1) over ``rows`` by SGD.

        Args:
            rows: (n,) int, n >= 2, into the images.
            labels: (n,) int, the annotated classes.
            passes: shuffled passes over the rows.
            rng: decides the order, and the dropout of networks that have some.
        """

    @abc.abstractmethod
    def predict(self, rows: np.ndarray) -> Tensor:
        """Softmax of ``rows`` (Eq. 2), (len(rows), M) float32 on the device."""

    @abc.abstractmethod
    def embed(self, rows: np.ndarray) -> np.ndarray:
        """Features of the penultimate layer of ``rows``, (len(rows), F) float32."""

    @abc.abstractmethod
    def predict_with_dropout(
        self, rows: np.ndarray, n_draws: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Softmax of ``rows`` under ``n_draws`` dropout masks, (n_draws, len(rows), M) float32.

        Monte Carlo dropout (Gal and Ghahramani, Dropout as a Bayesian approximation, 2016): batch
        norm stays in evaluation mode, dropout is on.

        Raises:
            ValueError: the network has no dropout.
        """

    @abc.abstractmethod
    def snapshot(self) -> Snapshot:
        """What training and a new initialisation change."""

    @abc.abstractmethod
    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a ``snapshot``; it can be used again."""

    @abc.abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that training changes, as a tree of tensors and numbers."""

    @abc.abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a ``state_dict`` of a classifier with the same settings and images.

        Raises:
            RuntimeError: the weights belong to another network.
        """

    def prepare_update(self, rng: np.random.Generator) -> int:
        """What comes before the ``fit`` after a query: new weights, with ``update="scratch"``.

        Returns:
            The passes to fit for.
        """
        if self.config.update == "scratch":
            self.initialise(rng)
            return self.config.pretrain_passes
        return self.config.update_passes

    def predict_proba(self, rows: np.ndarray) -> np.ndarray:
        """``predict``, taken from the device.

        Raises:
            FloatingPointError: the network has diverged.
        """
        return self.on_host(self.predict(rows))

    def on_host(self, softmax: Tensor) -> np.ndarray:
        """Predictions taken from the device, in one transfer.

        Raises:
            FloatingPointError: the network has diverged.
        """
        values = to_host(softmax, self.counters)
        if not np.isfinite(values).all():
            raise self.diverged()
        return values

    def diverged(self) -> FloatingPointError:
        """What to raise when predictions are not finite."""
        return FloatingPointError(
            "the classifier has diverged: its predictions are not finite. "
            f"Lower learning_rate ({self.config.learning_rate})"
        )


class NetworkClassifier(Classifier):
    """A network, its optimiser, and the images both work on.

    Args:
        images: where batches come from; several classifiers may share them.
        statistics: mean and deviation of the training images' channels, which normalise images
            unless the network's weights expect others.
        n_classes: M.
        config: the settings.
    """

    def __init__(
        self,
        images: DeviceImages,
        statistics: tuple[Tensor, Tensor],
        n_classes: int,
        config: ClassifierConfig,
    ) -> None:
        self.config = config
        self.n_classes = n_classes
        self.device = images.device
        self.counters = Counters()
        self.stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self._images = images
        self._statistics = statistics
        self._layout = _memory_layout(images, config)
        self.network: networks.Network
        self._graphed: GraphedStep | None = None
        self._parameters: list[nn.Parameter] = []

    @property
    def is_random(self) -> bool:
        """Whether the network has dropout."""
        return any(isinstance(part, DROPOUT) for part in self.network.modules())

    @property
    def n_features(self) -> int:
        """F; before ``initialise``, of a network that is built to see."""
        if self._parameters:
            return last_layer(self.network).in_features
        with torch_seeded(np.random.default_rng(0), torch.device("cpu")):
            return last_layer(self._build()).in_features

    @property
    def may_draw(self) -> bool:
        """Whether training may draw from torch's generators; nobody knows of a user's network."""
        return self.is_random or not isinstance(self.config.network, str)

    # --- weights ----------------------------------------------------------------------------------

    def initialise(self, rng: np.random.Generator) -> None:
        """Draw the whole network anew."""
        with torch_seeded(rng, self.device):
            network = self._build()
        if self._parameters:  # in place: recorded graphs know these very tensors
            self.network.load_state_dict(network.state_dict())
            self._set_momentum([None] * len(self._parameters))
            return
        self.network = network.to(self.device).to(memory_format=self._layout)
        self._normalisation = self._normalisation_for(network)
        self._parameters = list(self.network.parameters())
        self._optimiser = torch.optim.SGD(
            self._parameters,
            lr=self.config.learning_rate,
            momentum=self.config.momentum,
            weight_decay=self.config.weight_decay,
        )
        if self.stream is not None and self.config.cuda_graphs and not self.may_draw:
            self._graphed = GraphedStep(self.stream)

    def snapshot(self) -> Snapshot:
        """Weights and momentum, copied."""
        return Snapshot(
            self._weights(),
            [None if m is None else m.clone() for m in self._momentum()],
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Weights and momentum go back, in place."""
        self.network.load_state_dict(snapshot.weights)
        self._set_momentum(snapshot.momentum)

    def state_dict(self) -> dict[str, Any]:
        """Network and optimiser."""
        return {
            "network": self._weights(),
            "optimiser": copy.deepcopy(self._optimiser.state_dict()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Network and momentum, in place."""
        self.network.load_state_dict(state["network"])
        moments = state["optimiser"]["state"]
        self._set_momentum(
            [moments.get(i, {}).get("momentum_buffer") for i in range(len(self._parameters))]
        )

    def _build(self) -> networks.Network:
        """The network with new weights from torch's own generator, on the CPU."""
        network = networks.build(
            self.config.network, self._images.shape, self.n_classes, self.config.weights
        )
        if self.config.dropout > 0:
            network.head = nn.Sequential(nn.Dropout(self.config.dropout), network.head)
        return network

    def _weights(self) -> dict[str, Tensor]:
        """Copied, as training changes them in place."""
        return {name: value.clone() for name, value in self.network.state_dict().items()}

    def _momentum(self) -> list[Tensor | None]:
        return [self._optimiser.state[p].get("momentum_buffer") for p in self._parameters]

    def _set_momentum(self, values: Sequence[Tensor | None]) -> None:
        """In place where there is some already; none at all is the same as zeros."""
        for parameter, value in zip(self._parameters, values, strict=True):
            state = self._optimiser.state[parameter]
            buffer = state.get("momentum_buffer")
            if buffer is not None:
                buffer.zero_() if value is None else buffer.copy_(value)
            elif value is not None:
                state["momentum_buffer"] = value.to(self.device, copy=True)

    # --- Eq. 1 ------------------------------------------------------------------------------------

    def fit(
        self, rows: np.ndarray, labels: np.ndarray, passes: int, rng: np.random.Generator
    ) -> None:
        """Shuffled passes of mini-batches; see ``Classifier.fit``."""
        self.network.train()
        with (
            self._own_stream(),
            self.kernels(),
            torch_seeded(rng, self.device, needed=self.may_draw),
        ):
            for _ in range(passes):
                order = rng.permutation(len(rows))
                parts = split_evenly(order, self.config.batch_size)
                truth = torch.as_tensor(labels[order], device=self.device)
                batches = self._images.batches([rows[part] for part in parts])
                for images, part in zip(
                    batches, truth.split([len(part) for part in parts]), strict=True
                ):
                    if self._graphed is None:
                        self._step(self._normalised(images), part)
                    else:
                        self._graphed(self._step, self._normalised(images), part)
        self.counters.samples_trained += passes * len(rows)

    @contextlib.contextmanager
    def _own_stream(self) -> Iterator[None]:
        """On CUDA, work in this classifier's stream, in turn with what goes on outside."""
        if self.stream is None:
            yield
            return
        outside = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(outside)
        try:
            with torch.cuda.stream(self.stream):
                yield
        finally:
            outside.wait_stream(self.stream)

    def _step(self, images: Tensor, labels: Tensor) -> None:
        with self.autocast(training=True):
            loss = F.cross_entropy(self.network(images), labels)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()

    # --- Eq. 2 ------------------------------------------------------------------------------------

    def predict(self, rows: np.ndarray) -> Tensor:
        """Softmax of ``rows``, in large batches."""
        return F.softmax(self._infer(self.network, self._normalised_batches(rows)), dim=1)

    def predict_with_dropout(
        self, rows: np.ndarray, n_draws: int, rng: np.random.Generator
    ) -> np.ndarray:
        """See ``Classifier.predict_with_dropout``."""
        if not self.is_random:
            raise ValueError(NO_DROPOUT)
        # what comes before the first random layer is the same for every draw
        module: nn.Module = self.network
        batches: Callable[[], Iterator[Tensor]] = lambda: self._normalised_batches(rows)  # noqa: E731
        if not any(isinstance(part, DROPOUT) for part in self.network.backbone.modules()):
            features = self.features(rows)
            module, batches = self.network.head, lambda: iter(features.split(self._inference_size))
        with torch_seeded(rng, self.device):
            draws = [self._infer(module, batches(), random=True) for _ in range(n_draws)]
        return to_host(F.softmax(torch.stack(draws), dim=2), self.counters)

    def embed(self, rows: np.ndarray) -> np.ndarray:
        """The backbone's output."""
        return to_host(self.features(rows), self.counters)

    def fresh_head(self, rng: np.random.Generator) -> nn.Linear:
        """A new last layer; of a module of the user's own, the one it has."""
        with torch_seeded(rng, torch.device("cpu")):
            if isinstance(self.config.network, str):
                return nn.Linear(self.n_features, self.n_classes)
            return last_layer(self._build())

    def features(self, rows: np.ndarray) -> Tensor:
        """``embed`` without its last transfer: (len(rows), F) float32 on the device."""
        return self._infer(self.network.backbone, self._normalised_batches(rows))

    def _infer(self, module: nn.Module, batches: Iterator[Tensor], random: bool = False) -> Tensor:
        module.eval()
        if random:
            for part in module.modules():
                if isinstance(part, DROPOUT):
                    part.train()
        outputs = []
        with torch.inference_mode(), self.kernels(), self.autocast():
            for batch in batches:
                outputs.append(module(batch).float())
                self.counters.samples_forwarded += len(batch)
        # outside inference mode, so that what is kept can take part in training
        return torch.cat(outputs)

    # --- inputs -----------------------------------------------------------------------------------

    def _normalised_batches(self, rows: np.ndarray) -> Iterator[Tensor]:
        return map(self._normalised, self._images.batches(split(rows, self._inference_size)))

    def _normalised(self, images: Tensor) -> Tensor:
        mean, deviation = self._normalisation
        values = images.float().sub_(mean).div_(deviation)  # before the layout: long inner loops
        return values.contiguous(memory_format=self._layout)

    def _normalisation_for(self, network: networks.Network) -> tuple[Tensor, Tensor]:
        if network.mean is None or network.std is None:
            return self._statistics
        shape = self._statistics[0].shape
        mean = torch.tensor(network.mean, device=self.device).view(shape)
        std = torch.tensor(network.std, device=self.device).view(shape)
        return mean * 255, std * 255

    @property
    def _inference_size(self) -> int:
        if self.config.inference_batch_size is not None:
            return self.config.inference_batch_size
        size = max(16, INFERENCE_VALUES[self.device.type] // self._images.values)
        return min(size, CPU_IMAGES) if self.device.type == "cpu" else size

    def autocast(self, training: bool = False) -> torch.autocast:
        """The precision of the network's arithmetic."""
        enabled = self.config.precision == "bf16"
        if training and self.device.type == "cpu" and len(self._images.shape) == 4:
            enabled = False
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def kernels(self) -> contextlib.AbstractContextManager[None]:
        """Repeatable cuDNN kernels, and fp32 that means fp32."""
        return torch.backends.cudnn.flags(
            enabled=True,
            benchmark=not self.config.deterministic,
            deterministic=self.config.deterministic,
            allow_tf32=self.config.precision == "tf32",
        )


def last_layer(network: networks.Network) -> nn.Linear:
    """The linear layer of a network, behind its dropout if there is one."""
    *_, layer = network.head.modules()
    assert isinstance(layer, nn.Linear)
    return layer


NO_DROPOUT = (
    "the network has no dropout to draw from: set dropout above 0, or choose a network that has "
    "some"
)


def to_host(values: Tensor, counters: Counters) -> np.ndarray:
    """A tensor's values as an array, through pinned memory where they come from a GPU."""
    counters.bytes_to_host += values.nbytes
    if values.device.type != "cuda":
        return values.numpy()
    pinned = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    pinned.copy_(values, non_blocking=True)
    torch.cuda.current_stream(values.device).synchronize()
    return pinned.numpy()


@contextlib.contextmanager
def torch_seeded(
    rng: np.random.Generator, device: torch.device, *, needed: bool = True
) -> Iterator[None]:
    """Seed torch's own generators from ``rng`` for a while; the caller's come back afterwards.

    ``rng`` moves on even where the seed is not ``needed``, so that equal settings stay equal.
    """
    seed = int(rng.integers(2**63))
    if not needed:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _memory_layout(images: DeviceImages, config: ClassifierConfig) -> torch.memory_format:
    volumes = len(images.shape) == 4
    wanted = config.channels_last
    if wanted is None:
        small_cube = volumes and images.values // images.shape[0] < 32**3
        wanted = images.device.type == "cuda" or not small_cube
    if not wanted:
        return torch.contiguous_format
    return torch.channels_last_3d if volumes else torch.channels_last


def find_device(name: str) -> torch.device:
    """The device of a name; "auto" is CUDA where there is one.

    Raises:
        ValueError: neither CPU nor CUDA.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type not in INFERENCE_VALUES:
        raise ValueError(f"device must be 'auto', 'cpu' or 'cuda[:n]', not {name!r}")
    return device


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {allowed}, not {value!r}")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
