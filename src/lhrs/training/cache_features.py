"""Cache the features of a frozen encoder for every training image."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState

from lhrs import fingerprint
from lhrs.data.feature_cache import FeatureCache
from lhrs.errors import ConfigError
from lhrs.imagery.image import open_image
from lhrs.models.encoder import level_widths
from lhrs.models.modeling import LHRSForConditionalGeneration
from lhrs.models.processing import LHRSProcessor
from lhrs.progress import no_progress, progress_bar

_IMAGES_AT_ONCE = 16
_MAX_SIDE = 1024  # as `lhrs.data.chat_dataset` reads them


@torch.inference_mode()
def cache_features(
    model: LHRSForConditionalGeneration, processor: LHRSProcessor, images: Sequence[str], root: Path
) -> FeatureCache:
    """Encode the images that have no cached features, each process its part, and wait until all are there.

    A run that was stopped resumes. The folder inside `root` is named after encoder, weights and
    preprocessing, so that runs with others do not mix.

    Raises:
        ConfigError: the encoder's levels differ in width.
        DataError: an image cannot be read.
    """
    tower, state = model.model.vision_tower, PartialState()
    if len(set(level_widths(tower, model.config.levels))) > 1:
        raise ConfigError("cache_features needs an encoder whose levels have one width, such as a ViT.")
    cache = FeatureCache(root / _fingerprint(model, processor))
    todo = cache.missing(images)[state.process_index :: state.num_processes]
    device = state.device
    before = tower.device
    tower.to(device)
    progress = no_progress if state.process_index else progress_bar
    with progress("image features", len(todo)) as bar:
        for n in range(0, len(todo), _IMAGES_AT_ONCE):
            batch = todo[n : n + _IMAGES_AT_ONCE]
            pixels = [open_image(image, _MAX_SIDE).pixels for image in batch]
            values = cast(Any, processor).image_processor(images=pixels, return_tensors="pt")["pixel_values"]
            levels = model.get_image_features(values.to(device, tower.dtype)).last_hidden_state
            for image, value in zip(batch, cast(torch.Tensor, levels), strict=True):
                cache.write(image, value)
            bar.update(len(batch))
    tower.to(before)
    state.wait_for_everyone()
    return cache


def _fingerprint(model: LHRSForConditionalGeneration, processor: LHRSProcessor) -> str:
    """Return the fingerprint of encoder, layers and preprocessing."""
    settings = [str(model.config.levels), str(cast(Any, processor).image_processor.to_dict())]
    tower = model.model.vision_tower
    weights = (
        [name, fingerprint.of_bytes(memoryview(value.detach().cpu().contiguous().view(torch.uint8).numpy()))]
        for name, value in sorted(chain(tower.named_parameters(), tower.named_buffers()))
    )
    return fingerprint.of_config([settings, *weights])
