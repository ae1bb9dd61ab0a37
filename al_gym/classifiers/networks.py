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

from al_gym.classifiers import architectures, optimization
from al_gym.classifiers.augmentation import augmentation_of
from al_gym.classifiers.counters import Counters
from al_gym.classifiers.cuda_graphs import GraphedStep
from al_gym.classifiers.devices import INFERENCE_VALUES, device_of, to_host, torch_seeded
from al_gym.classifiers.images import DeviceImages, split, split_evenly
from al_gym.classifiers.interface import Lesson
from al_gym.classifiers.optimization import EarlyStopping, Validation
from al_gym.config import ClassifierConfig

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
        validation: what decides when training stops; None: it goes through all its passes.

    Raises:
        ValueError: an augmentation that is none.
    """

    def __init__(
        self,
        images: DeviceImages,
        statistics: tuple[Tensor, Tensor],
        n_classes: int,
        config: ClassifierConfig,
        validation: Validation | None = None,
    ) -> None:
        self.config = config
        self.n_classes = n_classes
        self.device = images.device
        self.counters = Counters()
        self.stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self._images = images
        self._statistics = statistics
        self._validation = validation
        self._augmentation = augmentation_of(config)
        # what a recorded graph knows: it is filled anew with every lesson
        self._class_weights: Tensor | None = None
        if config.class_weights is not None:
            self._class_weights = torch.ones(n_classes, device=self.device)
        self._layout = _memory_layout(images, config)
        self.network: architectures.Network
        self._optimizer: torch.optim.Optimizer
        self._graphed: GraphedStep | None = None
        self._parameters: list[nn.Parameter] = []

    @property
    def can_be_streamed(self) -> bool:
        """Whether other networks may be trained meanwhile, each in a stream."""
        return self.stream is not None and not self.may_draw and self._augmentation is None

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
        """Whether a step may draw from torch's generators; nobody knows of a user's network."""
        return self.is_random or not architectures.is_built_in(self.config.network)

    def over(self, images: DeviceImages) -> "NetworkClassifier":
        """The same network over other images of the same shape; training one trains both."""
        other = copy.copy(self)
        other._images = images
        return other

    # --- weights ----------------------------------------------------------------------------------

    def initialize(self, rng: np.random.Generator) -> None:
        """Draw the whole network anew."""
        with torch_seeded(rng, self.device):
            network = self._build()
        if self._parameters:  # in place: recorded graphs know these very tensors
            self.network.load_state_dict(network.state_dict())
            optimization.set_moments(self._optimizer, {})
            return
        self.network = _laid_out(network.to(self.device), self._layout)
        self._normalisation = self._normalisation_for(network)
        self._parameters = list(self.network.parameters())
        self._optimizer = optimization.optimizer_over(self._parameters, self.config)
        if self.stream is not None and self._can_be_recorded:
            self._graphed = GraphedStep(self.stream)

    def state_dict(self) -> dict[str, Any]:
        """Network and optimizer, copied, as training changes them in place."""
        return {
            "network": {name: value.clone() for name, value in self.network.state_dict().items()},
            "optimiser": copy.deepcopy(self._optimizer.state_dict()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Network and what the optimizer remembers, in place."""
        self.network.load_state_dict(state["network"])
        optimization.set_moments(self._optimizer, state["optimiser"]["state"])

    def _build(self) -> architectures.Network:
        """The network with new weights from torch's own generator, on the CPU."""
        network = architectures.build(
            self.config.network, self._images.shape, self.n_classes, self.config.weights
        )
        if self.config.dropout > 0:
            network.head = nn.Sequential(nn.Dropout(self.config.dropout), network.head)
        return network

    @property
    def _can_be_recorded(self) -> bool:
        """Whether a step is all on the device: of Adam and of a schedule the host keeps numbers."""
        plain = self.config.optimizer == "sgd" and self.config.schedule == "constant"
        return self.config.cuda_graphs and plain and not self.may_draw

    # --- Eq. 1 ------------------------------------------------------------------------------------

    def fit(self, lesson: Lesson, passes: int) -> None:
        """Shuffled passes of mini-batches; see ``Classifiers.fit``."""
        if not len(lesson.indices):
            return
        if self._class_weights is not None:
            weights = optimization.class_weights(self.config, lesson.labels, self.n_classes)
            self._class_weights.copy_(torch.from_numpy(weights))
        stopping = EarlyStopping(self.config.early_stopping)
        with (
            self._own_stream(),
            self.kernels(),
            torch_seeded(
                lesson.rng, self.device, needed=self.may_draw or self._augmentation is not None
            ),
        ):
            for i in range(passes):
                self._pass(lesson, i, passes)
                if self._validation is not None and stopping.is_over(
                    self._validation_loss(), self.state_dict
                ):
                    break
        if stopping.best is not None:
            self.load_state_dict(stopping.best)

    def _pass(self, lesson: Lesson, i: int, passes: int) -> None:
        """Pass ``i`` of so many."""
        self.network.train()
        order = lesson.rng.permutation(len(lesson.indices))
        if len(order) == 1:  # of one value a channel batch norm would have no deviation to learn
            order = order.repeat(2)
        parts = split_evenly(order, self.config.batch_size)
        truth = torch.as_tensor(lesson.labels[order], device=self.device)
        labels = truth.split([len(part) for part in parts])
        batches = self._images.batches([lesson.indices[part] for part in parts])
        for j, (images, part) in enumerate(zip(batches, labels, strict=True), i * len(parts)):
            inputs = self._normalised(images)
            if self._augmentation is not None:  # here, as a recorded step would repeat its draws
                inputs = self._augmentation(inputs).contiguous(memory_format=self._layout)
            rate = optimization.learning_rate(self.config, j, passes * len(parts))
            self._optimizer.param_groups[0]["lr"] = rate
            if self._graphed is None:
                self._step(inputs, part)
            else:
                self._graphed(self._step, inputs, part)
        self.counters.samples_trained += len(order)

    def _validation_loss(self) -> float:
        """Cross-entropy on the validation images, in nats."""
        assert self._validation is not None
        indices, labels = self._validation
        logits = self._infer(self.network, self._normalised_batches(indices))
        return F.cross_entropy(logits, torch.as_tensor(labels, device=self.device)).item()

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
            logits = self.network(images)
            loss = F.cross_entropy(
                logits, labels, self._class_weights, reduction=self.config.loss_reduction
            )
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
        # a grey image is repeated for each of the colours that the weights know
        images = images.expand(-1, mean.shape[1], *images.shape[2:])
        values = images.float().sub_(mean).div_(deviation)  # before the layout: long inner loops
        return values.contiguous(memory_format=self._layout)

    def _normalisation_for(self, network: architectures.Network) -> tuple[Tensor, Tensor]:
        if network.mean is None or network.std is None:
            return self._statistics
        shape = (1, -1, *self._statistics[0].shape[2:])
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
    on_device = DeviceImages(images, device_of(config), config.images)
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


def _laid_out(network: architectures.Network, layout: torch.memory_format) -> architectures.Network:
    """The network with its weights in a layout, those that have one for it.

    ``nn.Module.to`` refuses a network over volumes that has two-dimensional layers, for planes.
    """
    rank = {torch.channels_last: 4, torch.channels_last_3d: 5}.get(layout)
    for parameter in network.parameters():
        if parameter.dim() == rank:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return network


def _memory_layout(images: DeviceImages, config: ClassifierConfig) -> torch.memory_format:
    volumes = len(images.shape) == 4
    wanted = config.channels_last
    if wanted is None:
        small_cube = volumes and images.values // images.shape[0] < 32**3
        # Apple's GPUs know no such layout of volumes
        wanted = {"cuda": True, "cpu": not small_cube, "mps": False}[images.device.type]
    if not wanted:
        return torch.contiguous_format
    return torch.channels_last_3d if volumes else torch.channels_last
