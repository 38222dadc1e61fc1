from __future__ import annotations

import pytest
import torch

from modelmill.augment.chain import augment, check
from modelmill.augment.draws import generator
from modelmill.augment.geometric import Geometric
from modelmill.augment.mixup import Mixup
from modelmill.augment.photometric import Photometric
from modelmill.errors import SpecError


def test_mixing_keeps_the_mean_of_a_batch_and_says_who_was_blended_with_whom():
    batch = torch.rand(16, 3)
    blended, order, share = Mixup(alpha=0.4)(batch, generator(2))
    assert sorted(order.tolist()) == list(range(16))
    assert 0 < share < 1
    assert torch.allclose(blended.mean(0), batch.mean(0))
    assert torch.allclose(blended, share * batch + (1 - share) * batch[order])


def test_a_small_alpha_leaves_rows_almost_as_they_are():
    shares = [Mixup(alpha=0.01)(torch.zeros(2, 1), generator(seed)).share for seed in range(50)]
    assert sum(min(share, 1 - share) < 0.01 for share in shares) > 40


def test_steps_act_one_after_the_other():
    images = torch.rand(8, 1, 6, 6)
    steps = [Geometric(shift=1), Mixup(alpha=1.0), Photometric(contrast=0.3)]
    found = augment(steps, images, generator(5))
    random = generator(5)
    moved = steps[0](images, random)
    mixed = steps[1](moved.batch, random)
    assert torch.equal(found.batch, steps[2](mixed.batch, random).batch)
    assert torch.equal(found.order, mixed.order)
    assert found.share == mixed.share


def test_two_steps_that_blend_are_refused():
    with pytest.raises(SpecError, match="two steps blend rows"):
        augment([Mixup(), Mixup()], torch.rand(4, 2), generator(0))


def test_a_table_is_no_image():
    with pytest.raises(SpecError, match=r"augment\.geometric: takes image features, and these are a table of \(13,\)"):
        check([Mixup(), Geometric(shift=1)], (100, 13))
    check([Mixup()], (100, 13))
    check([Mixup(), Geometric(shift=1)], (100, 1, 8, 8))
