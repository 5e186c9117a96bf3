"""Cache the features of a frozen encoder for every training image."""

import os
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import PartialState

from lhrs import fingerprint
from lhrs.data.feature_cache import FeatureCache
from lhrs.errors import DataError
from lhrs.imagery.image import open_image
from lhrs.models.encoder import extract_levels
from lhrs.models.modeling import LHRSForConditionalGeneration
from lhrs.models.processing import LHRSProcessor
from lhrs.progress import no_progress, progress_bar

_IMAGES_AT_ONCE = 16
_FORMAT = "a grid per level"
"""Changes with the files of the cache, so that older ones are not read."""
_MAX_SIDE = 1024  # as `lhrs.data.chat_dataset` reads them


@torch.inference_mode()
def cache_features(
    model: LHRSForConditionalGeneration, processor: LHRSProcessor, images: Sequence[str], root: Path
) -> FeatureCache:
    """Encode the images that have no cached features, each process its part, and wait until all are there.

    A run that was stopped resumes. The folder inside `root` is named after encoder, weights and preprocessing, so that
    runs with others do not mix. An image that cannot be read is reported and gets no features: `FeatureCache.read`
    refuses it.
    """
    tower, state = model.model.vision_tower, PartialState()
    cache = FeatureCache(root / _fingerprint(model, processor))
    existing = [image for image in images if os.path.exists(image)]
    todo = cache.missing(existing)[state.process_index :: state.num_processes]
    device = state.device
    before = tower.device
    tower.to(device)
    progress = no_progress if state.process_index else progress_bar
    with progress("image features", len(todo)) as bar:
        for n in range(0, len(todo), _IMAGES_AT_ONCE):
            batch = todo[n : n + _IMAGES_AT_ONCE]
            opened = {image: one for image in batch if (one := _read(image)) is not None}
            bar.update(len(batch))
            if not opened:
                continue
            pixels = [*opened.values()]
            values = cast(Any, processor).image_processor(images=pixels, return_tensors="pt")["pixel_values"]
            levels, grids = extract_levels(tower, values.to(device, tower.dtype), model.config.levels)
            maps = [level.unflatten(1, grid) for level, grid in zip(levels, grids, strict=True)]
            for image, *of_image in zip(opened, *maps, strict=True):
                cache.write(image, [value.contiguous().cpu() for value in of_image])
    tower.to(before)
    state.wait_for_everyone()
    return cache


def _read(image: str) -> np.ndarray | None:
    try:
        return open_image(image, _MAX_SIDE).pixels
    except DataError as error:
        print(f"no features: {error}", file=sys.stderr)
        return None


def _fingerprint(model: LHRSForConditionalGeneration, processor: LHRSProcessor) -> str:
    """Return the fingerprint of encoder, layers and preprocessing."""
    settings = [_FORMAT, str(model.config.levels), str(cast(Any, processor).image_processor.to_dict())]
    tower = model.model.vision_tower
    weights = (
        [name, fingerprint.of_bytes(memoryview(value.detach().cpu().flatten().view(torch.uint8).numpy()))]
        for name, value in sorted(chain(tower.named_parameters(), tower.named_buffers()))
    )
    return fingerprint.of_config([settings, *weights])
