"""The classifier: training and inference with the data set resident on the device.

The images are one tensor in their storage type; a batch is an index into it, converted and
normalised where it lies. With ``trainable="head"`` the frozen backbone's features take the images'
place, and a pass costs one small matrix product a batch.
"""

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from al_gym import networks

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
    """Pretrained weights by torchvision's name, such as "IMAGENET1K_V1"; None: random."""
    trainable: Literal["all", "head"] = "all"
    """"head" freezes the backbone (batch norm in evaluation mode) and keeps its features."""
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
    precision: Literal["fp32", "bf16"] = "fp32"
    """"bf16" runs the network under autocast; it changes probabilities by up to 2e-2."""
    channels_last: bool | None = None
    """Memory layout of the activations; None: on where it pays, which is everywhere but
    for volumes below 32^3 voxels on the CPU."""
    device: str = "auto"
    """"auto": CUDA where there is one."""
    deterministic: bool = True
    """Only repeatable kernels on CUDA. The CPU is always repeatable."""

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: naming the setting and what it may be.
        """
        _one_of("trainable", self.trainable, ("all", "head"))
        _one_of("update", self.update, ("warm", "scratch"))
        _one_of("precision", self.precision, ("fp32", "bf16"))
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
    """The state of a ``Classifier`` at one moment."""

    network: networks.Network
    """The object itself; a new initialisation makes another one."""
    features: Tensor | None
    """Of its frozen backbone, with ``trainable="head"``."""
    weights: dict[str, Tensor]
    """Weights and batch-norm statistics of the part that learns."""
    optimiser: dict[str, Any]


class Classifier:
    """A network, its optimiser, and the images both work on.

    Args:
        images: (N, C, [D,] H, W), uint8 or int16; stays on the device whole.
        n_classes: M.
        training_rows: rows whose statistics normalise the images (never the test rows).
        config: the settings.
    """

    def __init__(
        self,
        images: np.ndarray,
        n_classes: int,
        training_rows: np.ndarray,
        config: ClassifierConfig,
    ) -> None:
        self.config = config
        self.n_classes = n_classes
        self.device = _device(config.device)
        self._images = torch.from_numpy(images).to(self.device)
        self._statistics = self._channel_statistics(training_rows)
        self._features: Tensor | None = None
        self.network: networks.Network
        self._layout = self._memory_layout()

    # --- weights ----------------------------------------------------------------------------------

    def initialise(self, rng: np.random.Generator) -> None:
        """Draw new weights and start a new optimiser. ``rng`` decides the weights."""
        image_shape = tuple(self._images.shape[1:])
        with _torch_seeded(rng, self.device):
            network = networks.build(
                self.config.network, image_shape, self.n_classes, self.config.weights
            )
        if self.config.dropout > 0:
            network.head = nn.Sequential(nn.Dropout(self.config.dropout), network.head)
        network = network.to(self.device)
        network = network.to(memory_format=self._layout)
        self._normalisation = self._normalisation_for(network)
        if self.config.trainable == "head":
            network.backbone.requires_grad_(False)
            if self._features is None or not _same_weights(network.backbone, self.network.backbone):
                self._keep_features(network)
        self.network = network
        self._new_optimiser()

    def _keep_features(self, network: networks.Network) -> None:
        """Pass every image through the frozen backbone once."""
        self._features = None
        everything = np.arange(len(self._images))
        self._features = self._infer(network.backbone, self._normalised, everything)

    def _new_optimiser(self) -> None:
        self._optimiser = torch.optim.SGD(
            self._trained.parameters(),
            lr=self.config.learning_rate,
            momentum=self.config.momentum,
            weight_decay=self.config.weight_decay,
        )

    @property
    def _trained(self) -> nn.Module:
        """The part that learns: the head alone over kept features, or the whole network."""
        return self.network.head if self.config.trainable == "head" else self.network

    def snapshot(self) -> Snapshot:
        """What training and a new initialisation change; everything that moves is copied."""
        return Snapshot(
            network=self.network,
            features=self._features,
            weights={name: value.clone() for name, value in self._trained.state_dict().items()},
            optimiser=copy.deepcopy(self._optimiser.state_dict()),
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a ``snapshot``; it can be used again."""
        self.network = snapshot.network
        self._features = snapshot.features
        self._trained.load_state_dict(snapshot.weights)
        self._new_optimiser()
        # load_state_dict keeps the tensors it is given, and training changes them in place
        self._optimiser.load_state_dict(copy.deepcopy(snapshot.optimiser))

    def state_dict(self) -> dict[str, Any]:
        """Network and optimiser, as a tree of tensors and numbers for another process."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a ``state_dict`` of a classifier with the same settings and images.

        Raises:
            RuntimeError: the weights belong to another network.
        """
        backbone = None if self._features is None else copy.deepcopy(self.network.backbone)
        self.network.load_state_dict(state["network"])
        if backbone is not None and not _same_weights(backbone, self.network.backbone):
            self._keep_features(self.network)
        self._new_optimiser()
        self._optimiser.load_state_dict(state["optimiser"])

    # --- Eq. 1 ------------------------------------------------------------------------------------

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
        all_rows = torch.as_tensor(rows, device=self.device)
        all_labels = torch.as_tensor(labels, device=self.device)
        trained = self._trained.train()
        with self._kernels(), _torch_seeded(rng, self.device):
            for _ in range(passes):
                order = torch.as_tensor(rng.permutation(len(rows)), device=self.device)
                for batch in _batches(order, self.config.batch_size):
                    with self._autocast():
                        logits = trained(self._inputs(all_rows[batch]))
                        loss = F.cross_entropy(logits, all_labels[batch])
                    self._optimiser.zero_grad(set_to_none=True)
                    loss.backward()
                    self._optimiser.step()

    def update(self, rows: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> None:
        """Retrain after a query: on from the current weights, or from new ones."""
        if self.config.update == "scratch":
            self.initialise(rng)
            self.fit(rows, labels, self.config.pretrain_passes, rng)
        else:
            self.fit(rows, labels, self.config.update_passes, rng)

    # --- Eq. 2 ------------------------------------------------------------------------------------

    def predict_proba(self, rows: np.ndarray) -> np.ndarray:
        """Softmax of ``rows``, (len(rows), M) float32.

        Raises:
            FloatingPointError: the network has diverged.
        """
        logits = self._infer(self._trained, self._inputs, rows)
        softmax = F.softmax(logits, dim=1).cpu().numpy()
        if not np.isfinite(softmax).all():
            raise FloatingPointError(
                "the classifier has diverged: its predictions are not finite. "
                f"Lower learning_rate ({self.config.learning_rate})"
            )
        return softmax

    def predict_with_dropout(
        self, rows: np.ndarray, n_draws: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Softmax of ``rows`` under ``n_draws`` dropout masks, (n_draws, len(rows), M) float32.

        Monte Carlo dropout (Gal and Ghahramani, Dropout as a Bayesian approximation, 2016): batch
        norm stays in evaluation mode, dropout is on.

        Raises:
            ValueError: the network has no dropout.
        """
        dropouts = [part for part in self._trained.modules() if isinstance(part, DROPOUT)]
        if not dropouts:
            raise ValueError(
                "the network has no dropout to draw from: set dropout above 0, or choose a network "
                "that has some"
            )
        # what comes before the first random layer is the same for every draw
        module: nn.Module = self._trained
        inputs: Callable[[Tensor], Tensor] = self._inputs
        if self._features is None and not any(
            isinstance(part, DROPOUT) for part in self.network.backbone.modules()
        ):
            features = self._infer(self.network.backbone, self._normalised, rows)
            module, inputs = self.network.head, features.__getitem__
            rows = np.arange(len(rows))
        with _torch_seeded(rng, self.device):
            draws = [
                F.softmax(self._infer(module, inputs, rows, random=dropouts), dim=1)
                for _ in range(n_draws)
            ]
        return torch.stack(draws).cpu().numpy()

    def embed(self, rows: np.ndarray) -> np.ndarray:
        """Features of the penultimate layer of ``rows``, (len(rows), F) float32."""
        if self._features is not None:
            return self._features[torch.as_tensor(rows, device=self.device)].cpu().numpy()
        return self._infer(self.network.backbone, self._normalised, rows).cpu().numpy()

    def _infer(
        self,
        module: nn.Module,
        inputs: Callable[[Tensor], Tensor],
        rows: np.ndarray,
        random: Sequence[nn.Module] = (),
    ) -> Tensor:
        module.eval()
        for part in random:
            part.train()
        all_rows = torch.as_tensor(rows, device=self.device)
        with torch.inference_mode(), self._kernels(), self._autocast():
            parts = [module(inputs(part)).float() for part in all_rows.split(self._inference_size)]
        # outside inference mode, so that what is kept can take part in training the head
        return torch.cat(parts)

    # --- inputs -----------------------------------------------------------------------------------

    def _inputs(self, rows: Tensor) -> Tensor:
        return self._normalised(rows) if self._features is None else self._features[rows]

    def _normalised(self, rows: Tensor) -> Tensor:
        mean, deviation = self._normalisation
        images = (self._images[rows].float() - mean) / deviation
        return images.contiguous(memory_format=self._layout)

    def _channel_statistics(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each channel over ``rows``, shaped to broadcast over a batch."""
        n_dims = self._images.dim() - 2
        count = 0
        total = squares = torch.zeros(
            self._images.shape[1], dtype=torch.float64, device=self.device
        )
        for part in torch.as_tensor(rows, device=self.device).split(256):
            values = self._images[part].transpose(0, 1).flatten(1).double()
            count += values.shape[1]
            total = total + values.sum(1)
            squares = squares + values.square().sum(1)
        mean = total / count
        deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
        shape = (1, -1, *[1] * n_dims)
        # a constant channel (an empty window) becomes zeros instead of NaN
        deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
        return mean.float().view(shape), deviation.float().view(shape)

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
        values = INFERENCE_VALUES[self.device.type]
        if self._features is not None:
            return max(16, values // self._features[0].numel())
        size = max(16, values // self._images[0].numel())
        return min(size, CPU_IMAGES) if self.device.type == "cpu" else size

    def _memory_layout(self) -> torch.memory_format:
        wanted = self.config.channels_last
        if wanted is None:
            small_cube = self._images.dim() == 5 and self._images[0, 0].numel() < 32**3
            wanted = self.device.type == "cuda" or not small_cube
        if not wanted:
            return torch.contiguous_format
        return torch.channels_last_3d if self._images.dim() == 5 else torch.channels_last

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.config.precision == "bf16"
        )

    def _kernels(self) -> contextlib.AbstractContextManager[None]:
        """Repeatable cuDNN kernels, and fp32 that means fp32."""
        return torch.backends.cudnn.flags(
            enabled=True,
            benchmark=not self.config.deterministic,
            deterministic=self.config.deterministic,
            allow_tf32=False,
        )


def _batches(order: Tensor, size: int) -> tuple[Tensor, ...]:
    """Consecutive batches of nearly equal size, as few as keep to ``size``."""
    return order.tensor_split(math.ceil(len(order) / size))


@contextlib.contextmanager
def _torch_seeded(rng: np.random.Generator, device: torch.device) -> Iterator[None]:
    """Seed torch's own generators from ``rng`` for a while; the caller's come back afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(rng.integers(2**63)))
        yield


def _same_weights(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in ours.items())


def _device(name: str) -> torch.device:
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
