"""The three branches of CMID: modules with their heads, state and loss."""

from collections.abc import Iterator

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from lhrs.cmid.losses import blend_visible, focal_frequency, focal_l1, info_nce, prototype_cross_entropy
from lhrs.cmid.masking import to_pixels


class MaskedReconstruction(nn.Module):
    """Reconstruct masked pixels from the student's last feature map: focal L1 and focal frequency loss.

    Args:
        width: channels of the feature map.
        in_chans: bands of the image.
        stride: pixels of the image per patch of the feature map.
        frequency_weight: weight of the frequency loss; the focal L1 loss has weight 1.
    """

    def __init__(self, width: int, in_chans: int, stride: int, frequency_weight: float = 1.0):
        super().__init__()
        self.decoder = nn.Sequential(nn.Conv2d(width, in_chans * stride**2, 1), nn.PixelShuffle(stride))
        self.frequency_weight = frequency_weight

    def forward(self, features: Tensor, pixels: Tensor, mask: Tensor) -> Tensor:
        """Return the loss.

        Args:
            features: `(N, width, g, g)` of the student.
            pixels: `(N, in_chans, S, S)` normalized, not masked.
            mask: `(N, m, m)` bool.
        """
        reconstruction = self.decoder(features).float()
        hidden = to_pixels(mask, pixels.shape[-2:]).to(reconstruction.dtype)
        spatial = focal_l1(reconstruction, pixels, hidden)
        blended = blend_visible(reconstruction, pixels, hidden)
        return spatial + self.frequency_weight * focal_frequency(blended, pixels)


class InstanceContrast(nn.Module):
    """Instance contrast of two views (MoCo v2, arXiv:2003.04297, with an MLP and no predictor).

    Args:
        width: channels of the feature map.
        queue_size: number of keys in the queue; a multiple of twice the batch of all processes.
        hidden: hidden width of the projectors.
        out: length of a key.
        temperature: of the softmax.
    """

    queue: Tensor
    place: Tensor

    def __init__(
        self, width: int, queue_size: int = 65536, hidden: int = 2048, out: int = 256, temperature: float = 0.2
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.projector, self.teacher_projector = (
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out)) for _ in range(2)
        )
        self.register_buffer("queue", F.normalize(torch.randn(queue_size, out), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))
        self._keys: Tensor | None = None

    def ema_pairs(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """Yield modules and those that follow them."""
        yield self.projector, self.teacher_projector

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss; `enqueue` adds the keys of both views to the queue.

        Args:
            student: `(2B, width, g, g)`, first views then second views.
            teacher: the same views.
        """
        query = F.normalize(self.projector(student.mean((2, 3))), dim=1)
        with torch.no_grad():
            key = F.normalize(self.teacher_projector(teacher.mean((2, 3))), dim=1).to(query.dtype)
        self._keys = key if self.training else None
        return info_nce(query, torch.cat(key.chunk(2)[::-1]), self.queue.to(query.dtype), self.temperature)

    @torch.no_grad()
    def enqueue(self) -> None:
        """Add the last step's keys of all processes, each once and in the same order on every process.

        Call it after backward, which needs the unchanged queue.
        """
        if self._keys is None:
            return
        first, second = (gather(view) for view in self._keys.chunk(2))
        keys, self._keys = torch.cat([second, first]).to(self.queue.dtype)[: len(self.queue)], None
        positions = (self.place + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue.index_copy_(0, positions, keys)
        self.place.copy_((self.place + len(keys)) % len(self.queue))


class PrototypeMatching(nn.Module):
    """Match the prototypes of patches that show the same place (DINO's loss on VICRegL's pairs).

    Args:
        width: channels of the feature map.
        prototypes: number of prototypes.
        hidden: hidden width of the heads.
        out: length of a patch's embedding.
        batch_norm: whether the heads have batch norms, as published for ResNets.
        momentum: momentum of the center.
    """

    center: Tensor

    def __init__(
        self,
        width: int,
        prototypes: int = 2048,
        hidden: int = 2048,
        out: int = 256,
        batch_norm: bool = False,
        momentum: float = 0.9,
    ) -> None:
        super().__init__()
        self.head, self.teacher_head = (_PrototypeHead(width, hidden, out, prototypes, batch_norm) for _ in range(2))
        self.momentum = momentum
        self.register_buffer("center", torch.zeros(prototypes))

    def ema_pairs(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """Yield modules and those that follow them."""
        yield self.head, self.teacher_head

    def forward(
        self, student: Tensor, teacher: Tensor, pairs: Tensor, close: Tensor, teacher_temperature: float
    ) -> Tensor:
        """Return the loss, the mean over close pairs of all processes.

        Args:
            student: `(2B, width, g, g)`, first views then second views.
            teacher: the same views.
            pairs: `(2B, P, 2)` indices of patches `(2B * g * g)`, of the student's and of the teacher's feature map.
            close: `(2B, P)`, 1 where a pair counts.
            teacher_temperature: of the teacher's softmax.
        """
        student_index, teacher_index = pairs.flatten(0, 1).unbind(1)
        scores = self.head(_cells(student, student_index))
        with torch.no_grad():
            targets = self.teacher_head(_cells(teacher, teacher_index)).float()
        losses = prototype_cross_entropy(scores, targets, self.center.clone(), teacher_temperature)
        weight = close.flatten().to(losses.dtype)
        count, processes = _sum(weight.sum()).clamp(min=1), dist.get_world_size() if _many() else 1
        if self.training:
            self._update_center((targets * weight[:, None]).sum(0), count)
        return (losses * weight).sum() * processes / count

    @torch.no_grad()
    def _update_center(self, total: Tensor, count: Tensor) -> None:
        self.center.lerp_(_sum(total) / count, 1 - self.momentum)


class _PrototypeHead(nn.Module):
    def __init__(self, width: int, hidden: int, out: int, prototypes: int, batch_norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for size in (width, hidden):
            layers += [nn.Linear(size, hidden), *([nn.BatchNorm1d(hidden)] if batch_norm else []), nn.GELU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(hidden, out))
        self.prototypes = nn.Linear(out, prototypes, bias=False)

    def forward(self, cells: Tensor) -> Tensor:
        """Return cosine similarities `(N, prototypes)`."""
        return F.linear(F.normalize(self.mlp(cells), dim=1), F.normalize(self.prototypes.weight, dim=1))


def _cells(features: Tensor, index: Tensor) -> Tensor:
    return features.flatten(2).transpose(1, 2).flatten(0, 1)[index]


def _many() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _sum(value: Tensor) -> Tensor:
    """Return the sum over processes."""
    if _many():
        value = value.clone()
        dist.all_reduce(value)
    return value


def gather(value: Tensor) -> Tensor:
    """Return the rows of all processes in their order."""
    if not _many():
        return value
    out = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(out, value.contiguous())
    return torch.cat(out)
