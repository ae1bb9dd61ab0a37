"""Whole networks: training and inference with the data set resident on the device.

The images are one tensor in their storage type; a batch is an index into it, converted and
normalised where it lies.
"""

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from al_gym.classifiers import architectures
from al_gym.classifiers.counters import Counters
from al_gym.classifiers.cuda_graphs import GraphedStep
from al_gym.classifiers.images import DeviceImages, split, split_evenly
from al_gym.classifiers.interface import Lesson
from al_gym.config import ClassifierConfig

INFERENCE_VALUES = {"cpu": 2**19, "cuda": 2**27}
"""Input values in one inference batch: what stays near the cache, or fills a GPU."""
CPU_IMAGES = 64
"""Most images in an inference batch on the CPU: the activations of more leave the cache, which cost
a third of the speed on images of 28 pixels and of 16^3 voxels."""
DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
"""Layers that Monte Carlo dropout leaves on."""


STREAMS = 16
"""Networks trained at once: PyTorch has 32 streams a device and then gives them out again."""


class Networks:
    """K networks: on CUDA trained in a stream each, otherwise one after the other.

    Args:
        members: the networks, over the same images.
    """

    def __init__(self, members: Sequence["NetworkClassifier"]) -> None:
        self.members = tuple(members)
        self.config, self.device = members[0].config, members[0].device
        self.counters = [member.counters for member in members]

    @property
    def n_features(self) -> int:
        """F."""
        return self.members[0].n_features

    def initialize(self, k: int, rng: np.random.Generator) -> None:
        """See ``Classifiers``."""
        self.members[k].initialize(rng)

    def fit(self, lessons: Sequence[Lesson], passes: int) -> None:
        """See ``Classifiers``."""
        learners = [self.members[lesson.k] for lesson in lessons]
        if len(lessons) > 1 and all(learner.can_be_streamed for learner in learners):
            # cuDNN's settings belong to the process: set here, no thread changes them under another
            with self.members[0].kernels(), ThreadPoolExecutor(STREAMS) as pool:
                for start in range(0, len(lessons), STREAMS):
                    chunk = slice(start, start + STREAMS)
                    fits = pool.map(lambda a, b: a.fit(b, passes), learners[chunk], lessons[chunk])
                    list(fits)  # raises what one of them has raised
        else:
            for learner, lesson in zip(learners, lessons, strict=True):
                learner.fit(lesson, passes)

    def predict(self, ks: Sequence[int], indices: Sequence[np.ndarray]) -> list[Tensor]:
        """See ``Classifiers``."""
        return [self.members[k].predict(each) for k, each in zip(ks, indices, strict=True)]

    def embed(self, k: int, indices: np.ndarray) -> np.ndarray:
        """See ``Classifiers``."""
        return to_host(self.members[k].features(indices), self.members[k].counters)

    def last_layer(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See ``Classifiers``."""
        member = self.members[k]
        layer = last_layer(member.network)
        weight, bias = (to_host(t.detach(), member.counters) for t in (layer.weight, layer.bias))
        return weight, bias

    def predict_with_dropout(
        self, k: int, indices: np.ndarray, n_draws: int, rng: np.random.Generator
    ) -> np.ndarray:
        """See ``Classifiers``."""
        return self.members[k].predict_with_dropout(indices, n_draws, rng)

    def weights(self, state: dict[str, Any]) -> dict[str, Tensor]:
        """See ``Classifiers``."""
        weights: dict[str, Tensor] = state["network"]
        return weights

    def state_dict(self, k: int) -> dict[str, Any]:
        """See ``Classifiers``."""
        return self.members[k].state_dict()

    def load_state_dict(self, k: int, state: dict[str, Any]) -> None:
        """See ``Classifiers``."""
        self.members[k].load_state_dict(state)


class NetworkClassifier:
    """A network, its optimizer, and the images both work on.

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
        self.network: architectures.Network
        self._graphed: GraphedStep | None = None
        self._parameters: list[nn.Parameter] = []

    @property
    def can_be_streamed(self) -> bool:
        """Whether other networks may be trained meanwhile, each in a stream."""
        return self.stream is not None and not self.may_draw

    @property
    def is_random(self) -> bool:
        """Whether the network has dropout."""
        return any(isinstance(part, DROPOUT) for part in self.network.modules())

    @property
    def n_features(self) -> int:
        """F; before ``initialize``, of a network that is built to see."""
        if self._parameters:
            return last_layer(self.network).in_features
        with torch_seeded(np.random.default_rng(0), torch.device("cpu")):
            return last_layer(self._build()).in_features

    @property
    def may_draw(self) -> bool:
        """Whether training may draw from torch's generators; nobody knows of a user's network."""
        return self.is_random or not architectures.is_built_in(self.config.network)

    # --- weights ----------------------------------------------------------------------------------

    def initialize(self, rng: np.random.Generator) -> None:
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
        self._optimizer = torch.optim.SGD(
            self._parameters,
            lr=self.config.learning_rate,
            momentum=self.config.momentum,
            weight_decay=self.config.weight_decay,
        )
        if self.stream is not None and self.config.cuda_graphs and not self.may_draw:
            self._graphed = GraphedStep(self.stream)

    def state_dict(self) -> dict[str, Any]:
        """Network and optimizer, copied, as training changes them in place."""
        return {
            "network": {name: value.clone() for name, value in self.network.state_dict().items()},
            "optimiser": copy.deepcopy(self._optimizer.state_dict()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Network and momentum, in place."""
        self.network.load_state_dict(state["network"])
        moments = state["optimiser"]["state"]
        self._set_momentum(
            [moments.get(i, {}).get("momentum_buffer") for i in range(len(self._parameters))]
        )

    def _build(self) -> architectures.Network:
        """The network with new weights from torch's own generator, on the CPU."""
        network = architectures.build(
            self.config.network, self._images.shape, self.n_classes, self.config.weights
        )
        if self.config.dropout > 0:
            network.head = nn.Sequential(nn.Dropout(self.config.dropout), network.head)
        return network

    def _set_momentum(self, values: Sequence[Tensor | None]) -> None:
        """In place where there is some already; none at all is the same as zeros."""
        for parameter, value in zip(self._parameters, values, strict=True):
            state = self._optimizer.state[parameter]
            buffer = state.get("momentum_buffer")
            if buffer is not None:
                buffer.zero_() if value is None else buffer.copy_(value)
            elif value is not None:
                state["momentum_buffer"] = value.to(self.device, copy=True)

    # --- Eq. 1 ------------------------------------------------------------------------------------

    def fit(self, lesson: Lesson, passes: int) -> None:
        """Shuffled passes of mini-batches; see ``Classifiers.fit``."""
        self.network.train()
        with (
            self._own_stream(),
            self.kernels(),
            torch_seeded(lesson.rng, self.device, needed=self.may_draw),
        ):
            for _ in range(passes):
                order = lesson.rng.permutation(len(lesson.indices))
                parts = split_evenly(order, self.config.batch_size)
                truth = torch.as_tensor(lesson.labels[order], device=self.device)
                batches = self._images.batches([lesson.indices[part] for part in parts])
                for images, part in zip(
                    batches, truth.split([len(part) for part in parts]), strict=True
                ):
                    if self._graphed is None:
                        self._step(self._normalised(images), part)
                    else:
                        self._graphed(self._step, self._normalised(images), part)
        self.counters.samples_trained += passes * len(lesson.indices)

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
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()

    # --- Eq. 2 ------------------------------------------------------------------------------------

    def predict(self, indices: np.ndarray) -> Tensor:
        """Softmax of ``indices``, in large batches."""
        return F.softmax(self._infer(self.network, self._normalised_batches(indices)), dim=1)

    def predict_with_dropout(
        self, indices: np.ndarray, n_draws: int, rng: np.random.Generator
    ) -> np.ndarray:
        """See ``Classifiers``."""
        if not self.is_random:
            raise ValueError(NO_DROPOUT)
        # what comes before the first random layer is the same for every draw
        module: nn.Module = self.network
        batches: Callable[[], Iterator[Tensor]] = lambda: self._normalised_batches(indices)  # noqa: E731
        if not any(isinstance(part, DROPOUT) for part in self.network.backbone.modules()):
            features = self.features(indices)
            module, batches = self.network.head, lambda: iter(features.split(self._inference_size))
        with torch_seeded(rng, self.device):
            draws = [self._infer(module, batches(), random=True) for _ in range(n_draws)]
        return to_host(F.softmax(torch.stack(draws), dim=2), self.counters)

    def fresh_head(self, rng: np.random.Generator) -> nn.Linear:
        """A new last layer; of a module of the user's own, the one it has."""
        with torch_seeded(rng, torch.device("cpu")):
            if architectures.is_built_in(self.config.network):
                return nn.Linear(self.n_features, self.n_classes)
            return last_layer(self._build())

    def features(self, indices: np.ndarray, progress: bool = False) -> Tensor:
        """The backbone's output, (n, F) float32 on the device; ``progress`` shows a bar."""
        batches = self._normalised_batches(indices)
        total = -(-len(indices) // self._inference_size)
        bar = tqdm(batches, "features", total, leave=False, delay=1, disable=not progress)
        return self._infer(self.network.backbone, bar)

    def _infer(self, module: nn.Module, batches: Iterable[Tensor], random: bool = False) -> Tensor:
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

    def _normalised_batches(self, indices: np.ndarray) -> Iterator[Tensor]:
        return map(self._normalised, self._images.batches(split(indices, self._inference_size)))

    def _normalised(self, images: Tensor) -> Tensor:
        mean, deviation = self._normalisation
        values = images.float().sub_(mean).div_(deviation)  # before the layout: long inner loops
        return values.contiguous(memory_format=self._layout)

    def _normalisation_for(self, network: architectures.Network) -> tuple[Tensor, Tensor]:
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


def network_over(
    images: np.ndarray, training: np.ndarray, n_classes: int, config: ClassifierConfig
) -> NetworkClassifier:
    """A network with the weights of generator 0, and images of its own.

    Args:
        images: (N, C, [D,] H, W), uint8 or int16.
        training: (n,) int, the images that normalise all of them.
        n_classes: M.
        config: the settings.
    """
    on_device = DeviceImages(images, find_device(config.device), config.images)
    statistics = on_device.channel_statistics(training)
    classifier = NetworkClassifier(on_device, statistics, n_classes, config)
    classifier.initialize(np.random.default_rng(0))
    return classifier


def last_layer(network: architectures.Network) -> nn.Linear:
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
