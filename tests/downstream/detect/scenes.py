"""Synthetic images with rotated rectangles, and the smallest backbone that can learn them."""

import numpy as np
import timm
import torch
from PIL import Image, ImageDraw
from torch import nn

from lhrs.metrics.iou import oriented_corners

COLOURS = {0: (230, 60, 40), 1: (60, 120, 240)}


class ToyBackbone(nn.Module):
    """ResNet-18 without pretrained weights."""

    def __init__(self):
        super().__init__()
        self.model = timm.create_model("resnet18", pretrained=False, features_only=True, out_indices=(1, 2, 3, 4))
        self.channels = self.model.feature_info.channels()

    def forward(self, pixels):
        return self.model(pixels)


def draw_scene(rng, size=128, objects=5):
    """Pixels uint8 `(size, size, 3)`, boxes float32 `(M, 5)` le90 that hardly touch, labels int64 `(M,)`."""
    image = Image.fromarray(rng.integers(90, 130, (size, size, 3), np.uint8))
    draw = ImageDraw.Draw(image)
    boxes, labels = [], []
    while len(boxes) < objects:
        w = rng.uniform(22, 44)
        box = np.array(
            [*rng.uniform(24, size - 24, 2), w, w * rng.uniform(0.3, 0.5), rng.uniform(-np.pi / 2, np.pi / 2)]
        )
        if any(np.hypot(*(box[:2] - b[:2])) < (box[2] + b[2]) / 2.4 for b in boxes):
            continue
        label = int(rng.integers(2))
        draw.polygon([tuple(p) for p in oriented_corners(box)[0]], fill=COLOURS[label])
        boxes.append(box)
        labels.append(label)
    return np.array(image), np.array(boxes, np.float32), np.array(labels)


def tensors(scenes):
    """Normalized pixels and targets of scenes."""
    pixels = torch.stack([torch.from_numpy(s[0]).permute(2, 0, 1) / 64 - 2 for s in scenes])
    return pixels, [{"boxes": torch.from_numpy(b), "labels": torch.from_numpy(n)} for _, b, n in scenes]
