from __future__ import annotations

import pytest
import torch

from modelmill.augment.colour import Colour
from modelmill.augment.draws import around_one, generator
from modelmill.augment.light import blurred, saturated, turned
from modelmill.augment.photometric import Photometric
from modelmill.errors import SpecError


def photos(rows=32, channels=3):
    return torch.rand(rows, channels, 8, 8, generator=torch.Generator().manual_seed(0))


def each(value, rows=1):
    return torch.full((rows, 1, 1, 1), value)


def test_contrast_keeps_an_images_mean_and_changes_its_spread():
    images = 0.4 + 0.2 * photos()
    images[0, 0, 0, 0], images[1, 0, 0, 0] = -9.0, 9.0  # so that nothing is cut off
    found = Photometric(contrast=0.5)(images, generator(0)).batch
    assert torch.allclose(found[2:].mean(dim=(1, 2, 3)), images[2:].mean(dim=(1, 2, 3)), atol=1e-5)
    factors = found[2:].std(dim=(1, 2, 3)) / images[2:].std(dim=(1, 2, 3))
    assert 1 / 1.5 <= float(factors.min()) < 0.8
    assert 1.25 < float(factors.max()) <= 1.5


def test_factors_grow_as_often_as_they_shrink():
    factors = around_one(generator(0), 1.0, 10_000)
    assert abs(float((factors > 1).float().mean()) - 0.5) < 0.02
    assert float(factors.min()) >= 0.5
    assert float(factors.max()) <= 2.0


def test_a_third_of_a_turn_makes_red_to_green_and_leaves_gray():
    red = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
    assert torch.allclose(turned(red, each(1 / 3)).flatten(), torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)
    gray = each(0.7).expand(1, 3, 1, 1)
    assert torch.allclose(turned(gray, each(0.2)), gray, atol=1e-6)


def test_hue_means_the_same_however_pixels_are_scaled():
    images = photos(4)
    scaled = turned((images - 0.3) / 0.2, each(0.15, 4))
    assert torch.allclose(scaled, (turned(images, each(0.15, 4)) - 0.3) / 0.2, atol=1e-4)


def test_without_saturation_an_image_is_gray():
    found = saturated(photos(2), each(0.0, 2))
    assert torch.allclose(found[:, 0], found[:, 1])
    assert torch.allclose(found[:, 0], (photos(2) * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1))


def test_a_blurred_dot_is_a_gaussian_of_the_same_mass():
    images = torch.zeros(2, 2, 21, 21)
    images[:, :, 10, 10] = 1.0
    found = blurred(images, torch.tensor([1.5, 0.0]).reshape(2, 1, 1, 1))
    assert torch.allclose(found.sum(dim=(2, 3)), torch.ones(2, 2), atol=1e-4)
    assert torch.allclose(found[1], images[1])
    ratio = float(found[0, 0, 10, 11] / found[0, 0, 10, 10])
    assert ratio == pytest.approx(torch.exp(torch.tensor(-1 / (2 * 1.5**2))).item(), rel=1e-3)


def test_noise_is_measured_in_deviations_of_the_batch():
    images = 100 * photos(400, 1)
    images[0, 0, 0, 0], images[0, 0, 0, 1] = -1e6, 1e6  # so that nothing is cut off
    spread = images.std()
    found = Photometric(noise=0.1)(images, generator(0)).batch - images
    deviations = found[1:].std(dim=(1, 2, 3)) / spread
    assert 0.09 < float(deviations.max()) < 0.13
    assert float(deviations.min()) < 0.02


@pytest.mark.parametrize("step", [Photometric(contrast=2.0, hue=0.5, noise=1.0), Colour(brightness=2.0, tint=2.0)])
def test_no_value_leaves_the_range_of_the_batch(step):
    images = photos()
    found = step(images, generator(0)).batch
    assert float(images.min()) <= float(found.min())
    assert float(found.max()) <= float(images.max())
    assert (found == images.max()).sum() > 20


def test_brightness_raises_or_lowers_all_pixels_of_an_image_alike():
    images = photos(64, 1)
    images[0, 0, 0, 0], images[0, 0, 0, 1] = -1e3, 1e3
    moves = (Colour(brightness=0.5)(images, generator(0)).batch - images)[1:]
    assert torch.allclose(moves.amin(dim=(1, 2, 3)), moves.amax(dim=(1, 2, 3)), atol=1e-3)
    assert 0.4 < float(moves.abs().max() / images.std()) <= 0.5


def test_a_tint_raises_channels_apart():
    images = photos(8)
    images[0, :, 0, 0], images[0, :, 0, 1] = -1e3, 1e3
    moves = (Colour(tint=0.5)(images, generator(0)).batch - images)[1:].mean(dim=(2, 3))
    assert float(moves.std(dim=1).min()) > 0


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Photometric(hue=0.1), r"augment\.photometric\.hue: images have 1 channel, expected red, green and blue"),
        (Colour(saturation=0.1), r"augment\.colour\.saturation: images have 1 channel"),
        (Colour(tint=0.1), r"augment\.colour\.tint: images have 1 channel, expected at least 2 channels"),
    ],
)
def test_colors_of_gray_images_are_refused(step, words):
    with pytest.raises(SpecError, match=words):
        step(photos(4, 1), generator(0))


def test_without_settings_nothing_changes():
    images = photos(4, 1)
    assert torch.equal(Photometric()(images, generator(0)).batch, images)
    assert torch.equal(Colour()(images, generator(0)).batch, images)
