from __future__ import annotations

import numpy as np
import pytest
import torch

from modelmill.augment.draws import generator
from modelmill.augment.geometric import Geometric
from modelmill.augment.warp import background, mirrored, moved, warped
from modelmill.errors import OutOfBounds


def dot(rows=64, side=5):
    images = torch.zeros(rows, 1, side, side)
    images[:, :, side // 2, side // 2] = 7.0
    return images


def matrices(rows, values):
    return torch.tensor(values, dtype=torch.float32).expand(rows, 2, 3)


def test_a_shifted_image_keeps_its_pixels_and_fills_up_with_background():
    images = dot()
    images[:, :, [0, 0, -1, -1], [0, -1, 0, -1]] = -1.0
    shifted = moved(images, 1, generator(0))
    assert (shifted == 7.0).sum(dim=(1, 2, 3)).tolist() == [1] * 64
    places = {tuple(place) for place in torch.nonzero(shifted[:, 0] == 7.0)[:, 1:].tolist()}
    assert places == {(row, column) for row in (1, 2, 3) for column in (1, 2, 3)}
    right = shifted[torch.nonzero(shifted[:, 0, :, 3] == 7.0)[0, 0], 0]
    assert right[:, 0].tolist() == [-1.0] * 5  # what came in at the left


def test_the_background_is_the_value_of_most_corners_channel_by_channel():
    images = torch.rand(10, 2, 6, 6)
    images[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]] = 0.25
    images[:, 1, [0, 0, -1, -1], [0, -1, 0, -1]] = -3.0
    assert background(images).flatten().tolist() == [0.25, -3.0]


def test_flipping_twice_by_the_same_dice_is_no_change():
    images = torch.rand(8, 2, 3, 4)
    once = mirrored(images, 3, generator(1))
    assert not torch.equal(once, images)
    assert torch.equal(mirrored(once, 3, generator(1)), images)


@pytest.mark.parametrize(("flip", "kinds"), [("horizontal", 2), ("vertical", 2), ("both", 4)])
def test_flips_make_every_mirror_image_and_no_other(flip, kinds):
    image = torch.arange(6.0).reshape(1, 1, 2, 3)
    found = Geometric(flip=flip)(image.repeat(64, 1, 1, 1), generator(0)).batch
    assert len({tuple(row) for row in found.flatten(1).tolist()}) == kinds
    assert {float(row.sort().values[0]) for row in found.flatten(1)} == {0.0}


def test_a_map_that_changes_nothing_gives_the_image():
    images = torch.rand(3, 2, 5, 7)
    assert torch.allclose(warped(images, matrices(3, [[1, 0, 0], [0, 1, 0]])), images, atol=1e-5)


def test_a_quarter_turn_is_a_quarter_turn():
    images = torch.rand(2, 3, 6, 6)
    turned = warped(images, matrices(2, [[0, -1, 0], [1, 0, 0]]))
    assert torch.allclose(turned, torch.rot90(images, 1, (2, 3)), atol=1e-5)


def test_a_map_is_in_pixels_whatever_the_shape_of_the_image():
    images = torch.zeros(1, 1, 5, 9)
    images[0, 0, 2, 6] = 1.0  # two to the right of the center
    turned = warped(images, matrices(1, [[0, -1, 0], [1, 0, 0]]))
    assert torch.nonzero(turned[0, 0] > 0.99).tolist() == [[0, 4]]  # two above it


def test_what_comes_from_beyond_the_edge_is_background():
    images = torch.full((2, 1, 4, 4), 5.0)
    images[:, :, 1:3, 1:3] = 9.0
    away = warped(images, matrices(2, [[1, 0, 40], [0, 1, 0]]))
    assert torch.equal(away, torch.full_like(images, 5.0))


def test_a_turn_keeps_the_middle_and_moves_the_rest_by_no_more_than_asked():
    images = torch.zeros(200, 1, 21, 21)
    images[:, :, 10, 20] = 1.0  # at the right edge, ten from the center
    turned = Geometric(rotate=30)(images, generator(0)).batch
    rows = (turned[:, 0].sum(dim=2) * torch.arange(21.0)).sum(dim=1) / turned[:, 0].sum(dim=(1, 2))
    assert float((rows - 10).abs().max()) == pytest.approx(10 * np.sin(np.radians(30)), abs=0.4)
    assert abs(float((rows - 10).mean())) < 0.5
    assert torch.allclose(Geometric(rotate=30)(dot(8, 21), generator(0)).batch[:, 0, 10, 10], torch.tensor(7.0))


def test_scaling_changes_areas_by_no_more_than_its_square():
    images = torch.zeros(200, 1, 33, 33)
    images[:, :, 11:22, 11:22] = 1.0
    areas = Geometric(scale=0.5)(images, generator(0)).batch.sum(dim=(1, 2, 3)) / 121
    assert 1.5**-2 * 0.88 < float(areas.min()) < 0.5
    assert 2.0 < float(areas.max()) < 1.5**2 * 1.12


def test_a_crop_shows_a_part_of_the_image_and_nothing_from_beyond_it():
    ramp = torch.linspace(1, 2, 16).expand(100, 1, 16, 16).clone()
    ramp[:, :, [0, 0, -1, -1], [0, -1, 0, -1]] = 99.0  # would be the background
    cropped = Geometric(crop=0.5)(ramp, generator(0)).batch[:, 0, 4:12]
    widths = cropped[:, :, 12] - cropped[:, :, 3]
    whole = float(ramp[0, 0, 8, 12] - ramp[0, 0, 8, 3])
    assert 0.45 * whole < float(widths.min()) < 0.6 * whole
    assert float(widths.max()) <= whole * 1.01


def test_shearing_moves_rows_against_each_other_and_leaves_the_middle_one():
    images = torch.zeros(50, 1, 9, 9)
    images[:, :, :, 4] = 1.0
    leaning = Geometric(shear=20)(images, generator(0)).batch[:, 0]
    places = (leaning * torch.arange(9.0)).sum(dim=2) / leaning.sum(dim=2)
    assert torch.allclose(places[:, 4], torch.tensor(4.0), atol=1e-4)
    assert torch.allclose(places[:, 0] - 4, 4 - places[:, 8], atol=1e-3)
    assert float((places[:, 0] - 4).abs().max()) <= 4 * np.tan(np.radians(20)) + 1e-3


def test_shift_and_flip_are_part_of_the_one_map():
    images = torch.zeros(100, 1, 9, 9)
    images[:, :, 4, 7] = 1.0
    found = Geometric(flip="horizontal", shift=1, scale=0.01)(images, generator(3)).batch[:, 0]
    columns = (found.sum(dim=1) * torch.arange(9.0)).sum(dim=1) / found.sum(dim=(1, 2))
    assert {round(float(column)) for column in columns} == {0, 1, 2, 6, 7, 8}


def test_without_settings_nothing_changes():
    images = torch.rand(4, 1, 3, 3)
    assert torch.equal(Geometric()(images, generator(0)).batch, images)


def test_a_turn_of_more_than_half_is_refused():
    with pytest.raises(OutOfBounds, match=r"geometric\.rotate = 200"):
        Geometric(rotate=200)
