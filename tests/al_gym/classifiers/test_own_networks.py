"""Networks of the user's own: what is taken, how it is split, and what is refused at once."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from al_gym import ActiveLearningEnv, ActiveLearningVectorEnv, ClassifierConfig
from al_gym.classifiers import architectures


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
    with pytest.raises(ValueError, match=r"does not take .* of shape \(2, 9, 9\)"):
        architectures.build(own, (2, 9, 9), 3)
    with pytest.raises(ValueError, match="must be a name, a module, or a function"):
        architectures.build(None, (2, 12, 12), 3)


# --- when the environment is made -----------------------------------------------------------------


def lazy(channels: int, n_classes: int) -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(n_classes))


def lazy_norm(channels: int, n_classes: int) -> nn.Module:
    return nn.Sequential(nn.LazyBatchNorm2d(), nn.Flatten(), nn.Linear(channels * 144, n_classes))


def softmax_at_the_end(channels: int, n_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 144, n_classes), nn.Softmax(1))


@pytest.fixture(params=["module", "function", "import path"])
def given(request, monkeypatch):
    """A network in the ways to give it."""

    def as_asked(factory):
        if request.param == "module":
            return factory(2, 3)
        if request.param == "function":
            return factory
        module = SimpleNamespace(factory=factory, module=factory(2, 3))
        monkeypatch.setitem(sys.modules, "my_own_networks", module)
        return "my_own_networks:factory"

    return as_asked


@pytest.mark.parametrize("trainable", ["all", "head"])
@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (
            lazy,
            r"layer '0' \(LazyConv2d\) is not built yet.*network\(torch.zeros\(2, 2, 12, 12\)\)",
        ),
        (lazy_norm, r"layer '0' \(LazyBatchNorm2d\) is not built yet"),
        (softmax_at_the_end, "is not its last operation"),
        (lambda channels, n_classes: own(channels, 5), "has 5 outputs"),
        (lambda channels, n_classes: own(3, n_classes), r"does not take .* \(2, 12, 12\)"),
    ],
)
def test_what_cannot_work_is_refused_when_the_environment_is_made(
    dataset, given, trainable, factory, said
):
    config = ClassifierConfig(network=given(factory), trainable=trainable, device="cpu")
    with pytest.raises(ValueError, match=said):
        ActiveLearningEnv(dataset, classifier_config=config)
    with pytest.raises(ValueError, match=said):
        ActiveLearningVectorEnv(2, dataset, classifier_config=config)


def test_a_lazy_module_that_has_seen_a_batch_is_taken(dataset):
    module = lazy(2, 3)
    module(torch.zeros(2, 2, 12, 12))
    config = ClassifierConfig(network=module, device="cpu", pretrain_passes=1)
    observation, _ = ActiveLearningEnv(dataset, classifier_config=config).reset(seed=0)
    assert observation.shape[1] == 3
