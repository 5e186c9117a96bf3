"""Corners of oriented boxes, and the overlap of masks; all in pixels of the image."""

import numpy as np


def oriented_corners(boxes: np.ndarray) -> np.ndarray:
    """Return `(N, 4, 2)` corners of `(N, 5)` boxes cx, cy, width, height, angle in radians, x turning towards y."""
    boxes = np.asarray(boxes, float).reshape(-1, 5)
    half = boxes[:, None, 2:4] / 2 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    cos, sin = np.cos(boxes[:, 4, None]), np.sin(boxes[:, 4, None])
    turned = np.stack([half[..., 0] * cos - half[..., 1] * sin, half[..., 0] * sin + half[..., 1] * cos], -1)
    return boxes[:, None, :2] + turned


def mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Return the overlap of two bool masks `(H, W)`; 0 for two empty ones."""
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0
