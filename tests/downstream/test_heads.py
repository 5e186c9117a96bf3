"""Heads: shapes at odd sizes, losses by hand, and what a siamese network promises."""

import pytest
import torch
import torch.nn.functional as F

from lhrs.downstream.backbone import Backbone
from lhrs.downstream.labeled_dataset import IGNORE
from lhrs.downstream.layers import masked_cross_entropy
from lhrs.downstream.task import get_task
from lhrs.errors import ConfigError


def task(kind, head=None, num_classes=3, **settings):
    torch.manual_seed(0)
    return get_task(kind).build_network(Backbone("test_resnet"), num_classes, head, **settings)


@pytest.mark.parametrize(("kind", "head"), [("segment", "upernet"), ("segment", "linear"), ("change", "bit"),
                                            ("change", "difference"), ("change", "linear")])  # fmt: skip
def test_scores_lie_over_every_pixel(kind, head):
    settings = {"decoder_channels": 16} if head == "upernet" else {}
    model = task(kind, head, 2, **settings).eval()
    shape = (2, 3, 45, 70) if kind == "segment" else (2, 2, 3, 45, 70)
    with torch.no_grad():
        assert model.logits(torch.randn(shape)).shape == (2, 2, 45, 70)
    loss = model.train()(torch.randn(shape), torch.ones(2, 45, 70, dtype=torch.uint8))["loss"]
    loss.backward()
    unused = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not [n for n in unused if not n.startswith("backbone.")], unused


def test_pixels_that_count_nowhere_have_no_say():
    torch.manual_seed(0)
    scores, target = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5)).to(torch.uint8)
    target[0] = IGNORE
    weight = torch.tensor([1.0, 2.0, 5.0])
    by_hand = F.cross_entropy(scores[1:], target[1:].long(), weight)
    torch.testing.assert_close(masked_cross_entropy(scores, target, weight), by_hand)
    target[:] = IGNORE
    assert masked_cross_entropy(scores, target, weight) == 0 == masked_cross_entropy(scores, target, None)


def test_the_auxiliary_head_learns_and_is_not_asked():
    with_, without = task("segment", decoder_channels=16), task("segment", decoder_channels=16, aux_loss_weight=0.0)
    without.load_state_dict(with_.state_dict(), strict=False)
    pixels, target = torch.randn(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.uint8)
    torch.testing.assert_close(with_.eval().logits(pixels), without.eval().logits(pixels))
    for model in (with_, without):
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout2d | torch.nn.BatchNorm2d):
                module.eval()
    gap = with_(pixels, target)["loss"] - without(pixels, target)["loss"]
    extra = with_.extra(with_.backbone(pixels)[2])
    by_hand = F.cross_entropy(F.interpolate(extra, (64, 64), mode="bilinear"), target.long())
    torch.testing.assert_close(gap, 0.4 * by_hand, rtol=1e-3, atol=1e-4)


def test_both_dates_go_through_one_network():
    pixels = torch.randn(1, 2, 3, 64, 64)
    difference, bit = task("change", "difference", 2).eval(), task("change", "bit", 2).eval()
    with torch.no_grad():
        torch.testing.assert_close(difference.logits(pixels), difference.logits(pixels.flip(1)))
        same = pixels[:, :1].expand(-1, 2, -1, -1, -1)
        flat = difference.logits(same)[..., 16:48, 16:48]
        assert flat.flatten(2).std(2).max() < 1e-5  # nothing changed: the same score everywhere
        first, second = bit.bit(torch.randn(1, 32, 6, 5), torch.randn(1, 32, 6, 5))
        assert first.shape == second.shape == (1, 32, 6, 5)
        before = bit.logits(pixels)
        changed = pixels.clone()
        changed[:, 1, :, :8, :8] += 3
        gap = (bit.logits(changed) - before).abs()
        assert gap[..., -8:, -8:].max() > 1e-7  # tokens carry what is far away


def test_an_unknown_head_is_one_line():
    with pytest.raises(ConfigError, match="segment has no head 'unet'; it has upernet, linear"):
        task("segment", "unet")
