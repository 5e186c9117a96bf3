"""ONNX graph of an encoder with dense heads, for images of any size."""

from dataclasses import fields
from typing import Any

import onnx
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from lhrs.models.dense_heads import DenseOutput
from lhrs.models.modeling import LHRSForConditionalGeneration

_STRIDE = 32
"""Sides of the input are multiples of it."""


class HeadsGraph(nn.Module):
    """`pixel_values (B, 3, H, W)`, `gsd_m (B,)` -> the fields of `DenseOutput`."""

    def __init__(self, model: LHRSForConditionalGeneration) -> None:
        super().__init__()
        self.model = model.model

    def forward(self, pixel_values: Tensor, gsd_m: Tensor) -> tuple[Tensor, ...]:
        out = self.model.perceive(pixel_values, gsd_m)
        return tuple(getattr(out, field.name) for field in fields(DenseOutput))


def trace_heads(model: LHRSForConditionalGeneration) -> onnx.ModelProto:
    """Return the graph of a model's encoder and dense heads."""
    restored = _fix_padding(model.model.vision_tower)
    images = torch.export.Dim("images")
    rows, columns = (torch.export.Dim(name, min=1, max=64) for name in ("rows", "columns"))
    shapes: Any = ({0: images, 2: _STRIDE * rows, 3: _STRIDE * columns}, {0: images})
    program = torch.onnx.export(
        HeadsGraph(model).eval(),
        (torch.randn(2, 3, 2 * _STRIDE, 3 * _STRIDE), torch.tensor([0.0, 1.0])),
        dynamo=True,
        input_names=["pixel_values", "gsd_m"],
        output_names=[field.name for field in fields(DenseOutput)],
        dynamic_shapes=shapes,
        optimize=False,
        verbose=False,
    )
    for parent, name, module in restored:
        setattr(parent, name, module)
    assert program is not None
    return program.model_proto


def _fix_padding(module: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    """Replace convolutions whose padding depends on the image's size; returns the modules that were replaced.

    TensorFlow's "same" padding of inputs whose sides the stride divides is constant. As a formula of the size it makes
    tracing take minutes.
    """
    found: list[tuple[nn.Module, str, nn.Module]] = []
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Conv2dSame):
                total = child.kernel_size[0] - child.stride[0] if child.stride[0] > 1 else child.kernel_size[0] - 1
                plain = nn.Conv2d(
                    child.in_channels, child.out_channels, child.kernel_size, child.stride,  # type: ignore[arg-type]
                    groups=child.groups, bias=child.bias is not None,
                )  # fmt: skip
                plain.weight, plain.bias = child.weight, child.bias
                padding = nn.ZeroPad2d((total // 2, total - total // 2) * 2)
                setattr(parent, name, nn.Sequential(padding, plain))
                found.append((parent, name, child))
    return found
