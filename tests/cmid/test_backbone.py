"""Backbones that keep less for backward."""

import gc

import pytest
import torch

from lhrs.cmid.backbone import checkpoint_activations, create_backbone
from lhrs.errors import ConfigError


def _step(name: str, parts: list[str], size: int) -> tuple[torch.Tensor, list[torch.Tensor], int]:
    """Return features, gradients and how many bytes wait for backward."""
    torch.manual_seed(0)
    model = create_backbone(name, 3, size).train()
    checkpoint_activations(model, parts)
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    before = {id(thing) for thing in gc.get_objects()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = model(torch.randn(2, 3, size, size))
    # What autograd keeps is seen by the hook; what recomputation keeps lies in Python's own containers.
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor) and id(thing) not in before:
            keep(thing)
    out.square().sum().backward()
    return out.detach(), [p.grad for p in model.parameters() if p.grad is not None], sum(kept.values())


@pytest.mark.parametrize(
    ("name", "parts", "size"),
    [
        ("resnet50", ["layer1", "layer2", "layer3", "layer4"], 64),
        ("swin_tiny_patch4_window7_224", [f"layers.{level}.blocks" for level in range(4)], 224),
        ("vit_tiny_patch16_224", ["blocks"], 224),
    ],
)
def test_recomputed_blocks_give_the_same_numbers_and_keep_less(name: str, parts: list[str], size: int) -> None:
    out, gradients, kept = _step(name, [], size)
    again, theirs, less = _step(name, parts, size)
    torch.testing.assert_close(again, out, rtol=0, atol=0)
    for one, other in zip(gradients, theirs, strict=True):
        torch.testing.assert_close(other, one)
    assert less < 0.75 * kept


def test_recompute_names_the_parts_that_there_are() -> None:
    with pytest.raises(ConfigError, match="no part 'layers' to recompute; it has conv1"):
        checkpoint_activations(create_backbone("resnet18", 3, 64), ["layers"])
