"""LHRSForConditionalGeneration: vision encoder -> bridge -> causal language model, in transformers' own way."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPast, BaseModelOutputWithPooling, ModelOutput

from lhrs.errors import ConfigError
from lhrs.models.bridge import Bridge, BridgeOutput, upcycle
from lhrs.models.configuration import LHRSBridgeConfig, LHRSConfig
from lhrs.models.dense_heads import DenseHeads, DenseOutput
from lhrs.models.encoder import extract_levels, remove_unused_layers
from lhrs.models.moe import Experts


@dataclass
class LHRSOutput(ModelOutput):
    """Output of `LHRSForConditionalGeneration`.

    loss: language loss plus `balance_weight` times the balance loss; logits `(B, T, V)`; expert_usage `(E,)` fractions.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Any = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    balance_loss: Tensor | None = None
    expert_usage: Tensor | None = None


@dataclass
class LHRSModelOutput(BaseModelOutputWithPast):
    """Hidden states of the language model, and statistics of the bridge's routers."""

    balance_loss: Tensor | None = None
    expert_usage: Tensor | None = None


@dataclass
class LHRSImageFeatures(BaseModelOutputWithPooling):
    """`pooler_output` holds the image tokens `(B, Q, D)`; `last_hidden_state` the levels concatenated on tokens."""

    bridge: BridgeOutput | None = None


class LHRSPreTrainedModel(PreTrainedModel):
    """Base class of the models."""

    config_class = LHRSConfig
    base_model_prefix = "model"
    input_modalities = ["image", "text"]
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["Bridge"]
    _skip_keys_device_placement = ["past_key_values"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Bridge | DenseHeads):
            module.init_weights()
        elif isinstance(module, Experts):
            for weight in (module.up_weight, module.down_weight):
                init.trunc_normal_(weight, std=self.config.bridge_config.initializer_range)
            for bias in (module.up_bias, module.down_bias):
                init.zeros_(bias)
        else:
            super()._init_weights(module)


class LHRSModel(LHRSPreTrainedModel):
    """The model without its language head."""

    def __init__(self, config: LHRSConfig) -> None:
        super().__init__(config)
        self.vision_tower = AutoModel.from_config(config.vision_config)
        remove_unused_layers(self.vision_tower, config.levels)
        bridge, heads = config.bridge_config, config.heads_config
        self.bridge = None if bridge is None else Bridge(bridge, config.text_config.hidden_size)
        self.dense_heads = None if heads is None else DenseHeads(heads)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_image_features(
        self, pixel_values: Tensor | None = None, image_levels: list[Tensor] | None = None, **kwargs: Any
    ) -> LHRSImageFeatures:
        """Return image tokens in `pooler_output` `(images, Q, D)`.

        Args:
            pixel_values: `(images, 3, H, W)` normalized pixels.
            image_levels: cached encoder features, for each level `(images, rows, columns, C)`; the encoder is not run.
        """
        if image_levels is not None:
            levels = [x.flatten(1, 2) for x in image_levels]
            grids = [(x.shape[1], x.shape[2]) for x in image_levels]
        else:
            pixels = cast(Tensor, pixel_values).to(self.vision_tower.dtype)
            levels, grids = extract_levels(self.vision_tower, pixels, self.config.levels)
        if self.bridge is None:
            raise ValueError("this model has no bridge: its language model sees no images")
        bridged = self.bridge([x.to(self.bridge.query.dtype) for x in levels], grids)
        same = len({x.shape[-1] for x in levels}) == 1
        return LHRSImageFeatures(
            last_hidden_state=torch.cat(levels, dim=1) if same else levels[-1],
            pooler_output=bridged.tokens,
            bridge=bridged,
        )

    def perceive(self, pixel_values: Tensor, gsd_m: Tensor | None = None) -> DenseOutput:
        """Return the logits of the dense heads.

        Args:
            pixel_values: `(B, 3, H, W)` normalized; sides are multiples of the deepest level's stride.
            gsd_m: `(B,)` meters per pixel; 0 where unknown.

        Raises:
            ValueError: the model has no dense heads.
        """
        if self.dense_heads is None:
            raise ValueError("this model has no dense heads")
        levels, grids = extract_levels(self.vision_tower, pixel_values, self.config.levels)
        maps = [x.transpose(1, 2).unflatten(2, grid) for x, grid in zip(levels, grids, strict=True)]
        return self.dense_heads(maps, gsd_m)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        image_levels: list[Tensor] | None = None,
        **kwargs: Any,
    ) -> LHRSModelOutput:
        """Scatter image tokens over the placeholders of `input_ids` and run the language model.

        Args:
            input_ids: `(B, T)`; every image takes `num_tokens` consecutive placeholder ids, images in reading order.
            pixel_values: `(images, 3, H, W)`, the images of the whole batch in the order of their placeholders.
            image_levels: cached encoder features of these images, see `get_image_features`.

        Raises:
            ValueError: placeholders and images do not match.
        """
        kwargs.pop("return_dict", None)
        router = None
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        if pixel_values is not None or image_levels is not None:
            features = self.get_image_features(pixel_values, image_levels)
            router = features.bridge.router if features.bridge is not None else None
            image = cast(Tensor, features.pooler_output).flatten(0, 1).to(inputs_embeds.device, inputs_embeds.dtype)
            at = self._placeholders(input_ids, inputs_embeds)
            if not torch.compiler.is_compiling() and int(at.sum()) != len(image):
                raise ValueError(
                    f"the prompt holds {int(at.sum())} image placeholders but the images need {len(image)} "
                    f"({self.config.bridge_config.num_tokens} each); let the processor expand them"
                )
            inputs_embeds = inputs_embeds.masked_scatter(at.unsqueeze(-1), image)
        out = self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        return LHRSModelOutput(
            last_hidden_state=out.last_hidden_state,
            past_key_values=out.past_key_values,
            hidden_states=out.hidden_states,
            attentions=out.attentions,
            balance_loss=router.balance_loss if router else None,
            expert_usage=router.usage if router else None,
        )

    def _placeholders(self, input_ids: Tensor | None, inputs_embeds: Tensor) -> Tensor:
        if input_ids is not None:
            return input_ids == self.config.image_token_id
        token = torch.tensor(self.config.image_token_id, device=inputs_embeds.device)
        return (inputs_embeds == self.get_input_embeddings()(token)).all(-1)


class LHRSForConditionalGeneration(LHRSPreTrainedModel, GenerationMixin):
    """Vision encoder, bridge and language model with its head; `generate`, PEFT and `pipeline` work as usual."""

    def __init__(self, config: LHRSConfig) -> None:
        super().__init__(config)
        self.model = LHRSModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        # The name of the embedding differs between language models.
        embedding = next(name for name, module in self.named_modules() if module is self.get_input_embeddings())
        self._tied_weights_keys = {"lm_head.weight": f"{embedding}.weight"}  # type: ignore[assignment]
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def get_image_features(self, pixel_values: Tensor | None = None, **kwargs: Any) -> LHRSImageFeatures:
        """See `LHRSModel.get_image_features`."""
        return self.model.get_image_features(pixel_values, **kwargs)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> LHRSOutput:
        """Return logits, and the loss where `labels` (`(B, T)`, -100 ignored) are given."""
        loss_kwargs = {k: kwargs.pop(k) for k in ("num_items_in_batch",) if k in kwargs}
        out = self.model(
            input_ids, pixel_values, attention_mask, position_ids, past_key_values, inputs_embeds, **kwargs
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(out.last_hidden_state[:, keep])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.text_config.vocab_size, **loss_kwargs
            )
            if out.balance_loss is not None:
                weight = self.config.bridge_config.balance_weight * _share_of_step(labels, **loss_kwargs)
                loss = loss + weight * out.balance_loss.to(loss)
        return LHRSOutput(
            loss=loss,
            logits=logits,
            past_key_values=out.past_key_values,
            hidden_states=out.hidden_states,
            attentions=out.attentions,
            balance_loss=out.balance_loss,
            expert_usage=out.expert_usage,
        )

    def upcycle_bridge(self, num_experts: int = 4, top_k: int = 2, balance_weight: float = 0.01) -> None:
        """Upcycle the dense bridge to experts, in place; the model computes the same until the routers are trained.

        Raises:
            ConfigError: the bridge has experts already, or the settings contradict each other.
        """
        old = self.config.bridge_config
        if old is None:
            raise ConfigError("this model has no bridge that could have experts")
        if old.num_experts > 1:
            raise ConfigError(f"the bridge has {old.num_experts} experts already; only a dense one can be upcycled")
        sizes = {"num_experts": num_experts, "top_k": top_k, "balance_weight": balance_weight}
        config = LHRSBridgeConfig.from_dict({**old.to_dict(), **sizes})
        bridge = Bridge(config, self.config.text_config.hidden_size).to(self.model.bridge.query)
        bridge.apply(self._init_weights)
        upcycle(self.model.bridge, bridge)
        self.model.bridge = bridge.train(self.training)
        self.config.bridge_config = self.model.config.bridge_config = config

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Any = None, **kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Repeat each prompt with its own images: a prompt may hold any number of them."""
        pixel_values = kwargs.pop("pixel_values", None)
        if pixel_values is not None and expand_size > 1:
            placeholders = (input_ids == self.config.image_token_id).sum(1)
            counts = (placeholders // self.config.bridge_config.num_tokens).tolist()
            of_prompt = torch.arange(len(pixel_values), device=pixel_values.device).split(counts)
            pixel_values = pixel_values[torch.cat([index.repeat(expand_size) for index in of_prompt])]
        expand = cast(Any, super())._expand_inputs_for_generation
        input_ids, kwargs = expand(expand_size, is_encoder_decoder, input_ids, **kwargs)
        return input_ids, kwargs if pixel_values is None else {**kwargs, "pixel_values": pixel_values}


def _share_of_step(labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor | float:
    """Return this batch's part of the optimizer step, so that accumulation does not multiply the balance loss."""
    if num_items_in_batch is None:
        return 1.0
    return (labels[:, 1:] != -100).sum() / num_items_in_batch


AutoConfig.register("lhrs_bridge", LHRSBridgeConfig)
AutoConfig.register("lhrs", LHRSConfig)
AutoModel.register(LHRSConfig, LHRSModel)
AutoModelForImageTextToText.register(LHRSConfig, LHRSForConditionalGeneration)
