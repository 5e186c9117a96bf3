"""LHRSProcessor: images and chat text to model inputs; placeholders are expanded here, so ids and mask always agree."""

from typing import Any

from transformers import AutoProcessor, ProcessorMixin
from transformers.processing_utils import MultiModalData

from lhrs.errors import ConfigError
from lhrs.models.configuration import LHRSConfig

IMAGE_TOKEN = "<image>"


class LHRSProcessor(ProcessorMixin):
    """Image processor + tokenizer + chat template.

    Args:
        image_processor: any transformers image processor of the encoder.
        tokenizer: tokenizer of the language model; must know the placeholder `<image>` as one token.
        chat_template: Jinja template; the tokenizer's own is used when None.
        num_image_tokens: placeholders per image, equal to the bridge's `num_tokens`.

    Raises:
        ConfigError: the tokenizer has no placeholder.
    """

    image_processor_class = "AutoImageProcessor"
    tokenizer_class = "AutoTokenizer"

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        num_image_tokens: int = 144,
        **kwargs: Any,
    ) -> None:
        self.image_token = IMAGE_TOKEN
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        if self.image_token_id is None or self.image_token_id == tokenizer.unk_token_id:
            raise ConfigError(f"the tokenizer does not know {IMAGE_TOKEN!r}; add it as a special token first")
        self.num_image_tokens = num_image_tokens
        super().__init__(image_processor, tokenizer, chat_template=chat_template or tokenizer.chat_template, **kwargs)

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs: Any) -> str:
        """Return the text that stands for one image (called by transformers for each placeholder)."""
        return self.image_token * self.num_image_tokens

    def _get_num_multimodal_tokens(self, image_sizes: list | None = None, **kwargs: Any) -> MultiModalData:
        count = len(image_sizes or [])
        if not count:
            return MultiModalData()
        return MultiModalData(num_image_tokens=[self.num_image_tokens] * count, num_image_patches=[1] * count)


AutoProcessor.register(LHRSConfig, LHRSProcessor)
