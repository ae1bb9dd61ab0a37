"""Augmentation: each by a plain loop with the same draws; seeded, and in training only."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from al_gym import ClassifierConfig
from al_gym.classifiers import make_classifiers
from al_gym.classifiers.augmentation import AUGMENTATIONS, augmentation_of
from tests.samples import One

CONFIG = ClassifierConfig(learning_rate=0.05, momentum=0.9, device="cpu")
SHAPES = [(7, 2, 16, 24), (5, 1, 8, 17, 32)]


def drawn(name, images, seed=3):
    torch.manual_seed(seed)
    return AUGMENTATIONS[name](images)


# --- against plain loops --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_flips_as_a_plain_loop(shape):
    images = torch.rand(shape)
    found = drawn("flip", images)
    torch.manual_seed(3)
    flips = torch.stack([torch.rand(shape[0], 1)[:, 0] < 0.5 for _ in shape[2:]], dim=1)
    assert 0 < flips.float().mean() < 1
    for image, changed, axes in zip(images, found, flips, strict=True):
        # axes count the channels as 0
        expected = image.flip([1 + i for i in range(len(axes)) if axes[i]])
        assert torch.equal(changed, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_shifts_as_a_plain_loop_over_padded_images(shape):
    images = torch.rand(shape)
    found = drawn("shift", images)
    torch.manual_seed(3)
    shifts = [torch.randint(-(s // 8), s // 8 + 1, (shape[0], 1))[:, 0] for s in shape[2:]]
    assert any((each != 0).any() for each in shifts)
    for i, (image, changed) in enumerate(zip(images, found, strict=True)):
        padded = np.pad(image, [(0, 0), *[(s // 8, s // 8) for s in shape[2:]]], mode="edge")
        where = [
            slice(s // 8 - int(shift[i]), s // 8 - int(shift[i]) + s)
            for s, shift in zip(shape[2:], shifts, strict=True)
        ]
        np.testing.assert_array_equal(changed, padded[(slice(None), *where)])


def test_a_shift_by_hand():
    """Eight pixels a row: by at most one, and the border is repeated."""
    row = torch.arange(8.0)
    images = row.expand(200, 1, 8, 8)
    found = {tuple(each[0, 0].tolist()) for each in drawn("shift", images)}
    assert found == {
        (0, 1, 2, 3, 4, 5, 6, 7),
        (0, 0, 1, 2, 3, 4, 5, 6),
        (1, 2, 3, 4, 5, 6, 7, 7),
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_intensities_as_a_plain_loop(shape):
    images = torch.randn(shape)
    found = drawn("intensity", images)
    torch.manual_seed(3)
    gains, offsets = torch.rand((2, shape[0], *[1] * (len(shape) - 1))).flatten(1) * 0.4 - 0.2
    assert gains.abs().max() <= 0.2 and offsets.std() > 0
    for image, changed, gain, offset in zip(images, found, gains, offsets, strict=True):
        torch.testing.assert_close(changed, image * (1 + gain) + offset)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_small_images_keep_shape_type_and_finite_values(name):
    images = torch.randn(3, 2, 1, 5)
    found = drawn(name, images)
    assert found.shape == images.shape and found.dtype == torch.float32
    assert torch.isfinite(found).all()


def test_several_follow_one_another():
    images = torch.randn(4, 1, 16, 16)
    augment = augmentation_of(replace(CONFIG, augmentation=["shift", "flip"]))
    torch.manual_seed(0)
    expected = AUGMENTATIONS["flip"](AUGMENTATIONS["shift"](images))
    torch.manual_seed(0)
    assert torch.equal(augment(images), expected)


# --- in training ----------------------------------------------------------------------------------


def trained(dataset, config, rows=40, seed=1):
    classifier = One(make_classifiers(dataset, config))
    indices = dataset.train[:rows]
    classifier.fit(indices, dataset.labels[indices], 2, np.random.default_rng(seed))
    return classifier


def test_the_generator_decides_it_and_the_callers_stays(dataset):
    config = replace(CONFIG, augmentation=("flip", "shift", "intensity"))
    seen = []
    for caller_seed in (0, 1):
        torch.manual_seed(caller_seed)
        expected = torch.rand(1, generator=torch.Generator().manual_seed(caller_seed))
        seen.append(trained(dataset, config).predict(dataset.test))
        assert torch.rand(1) == expected
    np.testing.assert_array_equal(*seen)
    assert not np.array_equal(trained(dataset, CONFIG).predict(dataset.test), seen[0])


def test_it_sees_normalised_batches_in_training_alone(dataset):
    seen = []

    def kept(images):
        seen.append(images.clone())
        return images

    classifier = trained(dataset, replace(CONFIG, augmentation=kept))
    assert [len(each) for each in seen] == [14, 13, 13] * 2
    assert all(each.dtype == torch.float32 and each.shape[1:] == (2, 12, 12) for each in seen)
    values = torch.cat(seen).transpose(0, 1).flatten(1)
    assert values.mean(1).abs().max() < 0.5 and (values.std(1) - 1).abs().max() < 0.5
    # nothing but the look at them has changed
    plain = trained(dataset, CONFIG).predict(dataset.test)
    np.testing.assert_array_equal(classifier.predict(dataset.test), plain)
    assert len(seen) == 6


def test_a_transform_of_torchvision_takes_part(dataset):
    transform = v2.Compose([v2.RandomHorizontalFlip(), v2.GaussianNoise(clip=False)])
    first, again, other = (
        trained(dataset, replace(CONFIG, augmentation=transform), seed=seed).predict(dataset.test)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    "path", ["torchvision.transforms.v2:RandomHorizontalFlip", "torch:negative", "torch:fliplr"]
)
def test_by_import_path(path):
    augment = augmentation_of(replace(CONFIG, augmentation=path))
    assert augment(torch.randn(2, 1, 4, 4)).shape == (2, 1, 4, 4)


def test_what_is_no_augmentation_is_refused_by_name(dataset):
    with pytest.raises(ValueError, match=r"augmentation must be one of \('flip'.*'flop'"):
        ClassifierConfig(augmentation=("flip", "flop"))
    with pytest.raises(ValueError, match="augmentation must be one of .*'flop'"):
        ClassifierConfig(augmentation="flop")
    with pytest.raises(ValueError, match="augmentation must be names, a function"):
        ClassifierConfig(augmentation=3)
    with pytest.raises(ValueError, match="does not go with trainable='head'"):
        ClassifierConfig(augmentation="flip", trainable="head")
    with pytest.raises(ValueError, match="'torch:no_such' cannot be imported"):
        make_classifiers(dataset, replace(CONFIG, augmentation="torch:no_such"))
    with pytest.raises(ValueError, match="'torch:pi' is a float, not a function"):
        make_classifiers(dataset, replace(CONFIG, augmentation="torch:pi"))
    assert ClassifierConfig(augmentation="flip").augmentation == ("flip",)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda images: images[..., 1:], r"it gets, \(14, 2, 12, 12\) .* not \(14, 2, 12, 11\)"),
        (lambda images: images.double(), "float32, not .* torch.float64"),
        (lambda images: images.numpy(), "must return a tensor, not a ndarray"),
    ],
)
def test_what_a_function_returns_is_looked_at(dataset, wrong, said):
    with pytest.raises(ValueError, match=said):
        trained(dataset, replace(CONFIG, augmentation=wrong))
