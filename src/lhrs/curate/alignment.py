"""Embeddings of images and texts by a vision or vision-language model, to score how well an image and a text match."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lhrs.errors import ConfigError
from lhrs.imagery.image import open_image

if TYPE_CHECKING:
    pass

_BATCH = 32
_MAX_SIDE = 1024


class EmbeddingModel:
    """A model that transformers loads: CLIP and SigLIP, which also embed texts; DINOv2; timm models.

    The results do not depend on the batch, except for rounding: texts are padded to the maximum length of the model.
    """

    def __init__(self, name: str, needs_text: bool = False) -> None:
        """Load the model.

        Args:
            name: directory or hub id.
            needs_text: the model must also embed texts.

        Raises:
            ConfigError: there is no such model, or it cannot embed texts although it must.
        """
        import torch
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._model: Any = AutoModel.from_pretrained(name, dtype=torch.float32).eval().to(self._device)
            self._processor: Any = AutoImageProcessor.from_pretrained(name)
            if needs_text and not hasattr(self._model, "get_text_features"):
                raise ConfigError(f"{name} reads no texts: image-text alignment takes a CLIP- or SigLIP-class model.")
            self._tokenizer: Any = AutoTokenizer.from_pretrained(name) if needs_text else None
        except (OSError, ValueError, KeyError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{name} cannot be loaded ({' '.join(str(error).split())[:300]}).") from None

    def images(self, paths: Sequence[str]) -> np.ndarray:
        """Return float32 `(N, D)` of length 1.

        Raises:
            DataError: an image cannot be opened.
        """

        def embed(batch: Sequence[str]) -> Any:
            pixels = [open_image(path, _MAX_SIDE).pixels for path in batch]
            inputs = self._processor(images=pixels, return_tensors="pt")["pixel_values"].to(self._device)
            if hasattr(self._model, "get_image_features"):
                return self._model.get_image_features(pixel_values=inputs)
            return self._model(pixel_values=inputs)

        return self._in_batches(paths, embed)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 `(N, D)` of length 1. Texts are truncated to the maximum length of the model."""
        config = self._model.config.text_config
        length = min(self._tokenizer.model_max_length, config.max_position_embeddings)

        def embed(batch: Sequence[str]) -> Any:
            inputs = self._tokenizer(
                list(batch), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
            )
            return self._model.get_text_features(**inputs.to(self._device))

        return self._in_batches(texts, embed)

    def _in_batches(self, items: Sequence[str], embed: Any) -> np.ndarray:
        import torch

        with torch.inference_mode():
            parts = [_unit(embed(items[n : n + _BATCH])) for n in range(0, len(items), _BATCH)]
        return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


def _unit(output: Any) -> "np.ndarray":
    """Return the embedding of each item, normalized to length 1."""
    import torch

    features: torch.Tensor = output.pooler_output
    if features is None:
        features = output.last_hidden_state.mean(1)
    return torch.nn.functional.normalize(features.flatten(1).float(), dim=1).cpu().numpy()
