"""The losses of CMID as functions of tensors (arXiv:2304.09670, section III; constants from its published settings)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def focal_l1(prediction: Tensor, target: Tensor, mask: Tensor, alpha: float = 0.2) -> Tensor:
    """Return the mean over masked pixels of |d| * (2 sigmoid(alpha |d|) - 1), which weighs small errors down.

    Args:
        prediction: `(B, C, H, W)`.
        target: `(B, C, H, W)`.
        mask: `(B, 1, H, W)`, 1 where pixels count.
        alpha: steepness of the weight.
    """
    distance = (prediction - target).abs()
    loss = distance * (2 * torch.sigmoid(alpha * distance) - 1)
    return (loss * mask).sum() / (mask.sum() + 1e-5) / prediction.shape[1]


def focal_frequency(
    prediction: Tensor, target: Tensor, shared_maximum: bool = False, mean_spectrum: bool = False
) -> Tensor:
    """Return the squared distance of spectra, weighted by log(1 + distance) (arXiv:2012.12821, log variant).

    Args:
        prediction: `(B, C, H, W)`.
        target: `(B, C, H, W)`.
        shared_maximum: scale weights by the maximum of the batch, as published, instead of each image's own. An image's
            loss then depends on the other images of the batch.
        mean_spectrum: compare the mean spectra of the batch, as published. Errors of different images then cancel, and
            the loss falls as 1 / B.
    """
    # The spectrum of the difference is the difference of the spectra. Real images have a symmetric spectrum: half of
    # it is enough.
    spectrum = torch.fft.rfft2((prediction - target).float(), norm="ortho")
    if mean_spectrum:
        spectrum = spectrum.mean(0, keepdim=True)
    power = spectrum.real.square() + spectrum.imag.square()
    with torch.no_grad():
        weight = torch.log1p(power.sqrt())
        largest = weight.max() if shared_maximum or mean_spectrum else weight.amax((1, 2, 3), keepdim=True)
        weight = weight / largest.clamp(min=1e-12) * _twice(prediction.shape[-1], weight.shape[-1], weight.device)
    return (weight * power).sum() / (power.shape[0] * power.shape[1] * prediction.shape[-2] * prediction.shape[-1])


def _twice(width: int, half: int, device: torch.device) -> Tensor:
    """Return how often each column of a half spectrum occurs in the full spectrum."""
    count = torch.full((half,), 2.0, device=device)
    count[0] = 1.0
    if width % 2 == 0:
        count[-1] = 1.0
    return count


def blend_visible(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return the input of the frequency loss; visible pixels are blended with the target and get almost no gradient.

    Args:
        prediction: `(B, C, H, W)`.
        target: `(B, C, H, W)`.
        mask: `(B, 1, H, W)`, 1 where pixels were masked.
    """
    weight = mask + 0.001 * (1 - mask)
    return prediction * weight + (0.5 * prediction.detach() + 0.5 * target) * (1 - weight)


def info_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float = 0.2) -> Tensor:
    """Return the InfoNCE loss: cross-entropy of each query's key among the queue (arXiv:1911.05722).

    Args:
        query: `(B, D)` of unit length.
        key: `(B, D)` of unit length; row n belongs to query n.
        queue: `(K, D)` of unit length, keys of other images.
        temperature: of the softmax.
    """
    positive = (query * key).sum(1, keepdim=True)
    logits = torch.cat([positive, query @ queue.T], 1).float() / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


def prototype_cross_entropy(
    student: Tensor, teacher: Tensor, center: Tensor, teacher_temperature: float, temperature: float = 0.1
) -> Tensor:
    """Return each patch's cross-entropy `(N,)` between the teacher's and the student's prototypes (arXiv:2104.14294).

    Args:
        student: `(N, K)` scores of N patches over K prototypes.
        teacher: `(N, K)` scores of the patches that show the same place.
        center: `(K,)` running mean of the teacher's scores; it prevents collapse to one prototype.
        teacher_temperature: of the teacher's softmax.
        temperature: of the student's softmax.
    """
    targets = ((teacher.float() - center) / teacher_temperature).softmax(-1)
    return -(targets * (student.float() / temperature).log_softmax(-1)).sum(-1)
