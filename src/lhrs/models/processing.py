"""LHRSProcessor: images and chat text to model inputs; placeholders are expanded here, so ids and mask always agree."""

from pathlib import Path
from typing import Any

from timm import get_pretrained_cfg
from timm.data import resolve_data_config
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, ProcessorMixin, SiglipImageProcessorPil
from transformers.image_utils import PILImageResampling
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


def load_image_processor(source: str, image_size: int | None = None, revision: str = "main") -> Any:
    """Return the image processor of an encoder.

    That of a timm encoder resizes the whole image to a square, by the interpolation, mean and standard deviation of the
    encoder's `pretrained_cfg`, else of timm's for the architecture. timm's own processor would crop the center
    (`crop_pct`), and could not be saved with a model.

    Args:
        source: hub id or folder of the encoder, or of a model.
        image_size: side in pixels of the square, for a timm encoder of any input size; None is the side of the
            `pretrained_cfg`.
        revision: branch, tag or commit of a hub id.

    Raises:
        ConfigError: the encoder has an input size of its own.
    """
    config = AutoConfig.from_pretrained(source, revision=revision)
    own = any((Path(source) / name).is_file() for name in ("preprocessor_config.json", "processor_config.json"))
    if config.model_type != "timm_wrapper" or own:
        if image_size is not None:
            raise ConfigError(f"image_size is for timm encoders; {source} has the size of its image processor")
        return AutoImageProcessor.from_pretrained(source, backend="pil", revision=revision)
    known = get_pretrained_cfg(config.architecture)
    cfg = {**(known.to_dict() if known else {}), **(getattr(config, "pretrained_cfg", None) or {})}
    sizes = resolve_data_config(pretrained_cfg=cfg, verbose=False)
    height, width = sizes["input_size"][1:]
    if image_size is not None and cfg.get("fixed_input_size") and image_size != height:
        raise ConfigError(f"{source} reads images of {height} pixels only; leave image_size out")
    return SiglipImageProcessorPil(
        size={"height": image_size or height, "width": image_size or width},
        resample=getattr(PILImageResampling, sizes["interpolation"].upper(), PILImageResampling.BICUBIC),
        image_mean=list(sizes["mean"]),
        image_std=list(sizes["std"]),
    )


AutoProcessor.register(LHRSConfig, LHRSProcessor)
