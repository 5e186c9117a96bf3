"""Configuration of the LHRS family: a vision encoder, a bridge and a language model."""

from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from lhrs.errors import ConfigError

KEY_POSITIONS = ("none", "sincos2d")
EXPERT_STYLES = ("gelu", "nova_linear", "nova_matrix")
QUERY_INITS = ("normal", "grid")


class LHRSBridgeConfig(PreTrainedConfig):
    """Sizes and switches of the bridge; LHRS-Bot and LHRS-Bot-Nova are two settings of it.

    Args:
        queries: learned queries per tapped encoder level, shallow to deep; their sum is the number of image tokens.
        hidden_size: width of the bridge.
        level_sizes: width of each tapped level; None means `hidden_size` (no input projection).
        num_layers: cross-attention blocks, shared by all levels.
        num_heads: attention heads.
        mlp_ratio: feed-forward width over `hidden_size`.
        keys_include_queries: the initial queries join the keys and values (LHRS-Bot).
        key_positions: "none", or "sincos2d" added to the keys only (Nova).
        outer_norms: LayerNorm on queries, image tokens and output outside the blocks (Nova).
        num_experts: feed-forward experts per block; 1 is a plain feed-forward.
        top_k: experts that each token visits.
        expert_style: "gelu", or "nova_linear": the released Nova experts, which lack an activation and are routed by a
            tanh gate with training noise; "nova_matrix": the same with each expert multiplied out to one matrix. The
            latter two are for imported checkpoints only.
        balance_weight: weight of the load-balancing loss (arXiv:2101.03961); ignored by dense bridges.
        query_init: "normal" (std 0.02), or "grid": queries start at the sincos position of a square grid of points and
            keys are projected like queries, so that each query first attends to its own position. Queries per level
            must be squares.
        layer_norm_eps: epsilon of every LayerNorm.
        initializer_range: standard deviation of queries and experts at initialization.

    Raises:
        ConfigError: the settings contradict each other.
    """

    model_type = "lhrs_bridge"

    def __init__(
        self,
        queries: tuple[int, ...] | list[int] = (64, 48, 32),
        hidden_size: int = 1024,
        level_sizes: list[int] | None = None,
        num_layers: int = 6,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        keys_include_queries: bool = False,
        key_positions: str = "none",
        outer_norms: bool = False,
        num_experts: int = 1,
        top_k: int = 2,
        expert_style: str = "gelu",
        balance_weight: float = 0.01,
        query_init: str = "normal",
        layer_norm_eps: float = 1e-5,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        if hidden_size % num_heads:
            raise ConfigError(f"bridge hidden_size {hidden_size} is not divisible by num_heads {num_heads}")
        if num_experts > 1 and not 1 <= top_k <= num_experts:
            raise ConfigError(f"top_k must be between 1 and num_experts={num_experts}, got {top_k}")
        if any(round(count**0.5) ** 2 != count for count in queries) and query_init == "grid":
            raise ConfigError(f"query_init 'grid' needs square numbers of queries, got {list(queries)}")
        for name, value, known in (
            ("key_positions", key_positions, KEY_POSITIONS),
            ("expert_style", expert_style, EXPERT_STYLES),
            ("query_init", query_init, QUERY_INITS),
        ):
            if value not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if level_sizes is not None and len(level_sizes) != len(queries):
            raise ConfigError(f"level_sizes has {len(level_sizes)} entries for {len(queries)} levels")
        self.queries = list(queries)
        self.hidden_size = hidden_size
        self.level_sizes = list(level_sizes) if level_sizes is not None else None
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.mlp_ratio = mlp_ratio
        self.keys_include_queries = keys_include_queries
        self.key_positions = key_positions
        self.outer_norms = outer_norms
        self.num_experts = num_experts
        self.top_k = top_k
        self.expert_style = expert_style
        self.balance_weight = balance_weight
        self.query_init = query_init
        self.layer_norm_eps = layer_norm_eps
        self.initializer_range = initializer_range
        super().__init__(**kwargs)

    @property
    def num_tokens(self) -> int:
        """Image tokens that the language model sees per image."""
        return sum(self.queries)


class LHRSHeadsConfig(PreTrainedConfig):
    """Sizes and class names of the dense heads, see `lhrs.models.dense_heads`.

    Args:
        scene_classes: names of scene classes, `SET/CLASS`.
        tags: names of what may be present in an image.
        land_cover_classes: names of the land-cover classes of a pixel.
        object_classes: names of countable objects.
        level_sizes: channels of the encoder levels that the pyramid reads, shallow to deep.
        width: channels of the pyramid.
        neck_width: channels of the layer before the scene classes; EfficientNet's own is used where it has this width.
        dropout: before the linear layers of scenes and tags.
    """

    model_type = "lhrs_heads"

    def __init__(
        self,
        scene_classes: list[str] | None = None,
        tags: list[str] | None = None,
        land_cover_classes: list[str] | None = None,
        object_classes: list[str] | None = None,
        level_sizes: list[int] | None = None,
        width: int = 64,
        neck_width: int = 1280,
        dropout: float = 0.2,
        **kwargs: Any,
    ) -> None:
        self.scene_classes, self.tags = scene_classes or [], tags or []
        self.land_cover_classes, self.object_classes = land_cover_classes or [], object_classes or []
        self.level_sizes = level_sizes or []
        self.width, self.neck_width, self.dropout = width, neck_width, dropout
        super().__init__(**kwargs)


class LHRSConfig(PreTrainedConfig):
    """Configuration of `LHRSForConditionalGeneration`.

    Args:
        vision_config: any transformers vision encoder, or `timm_wrapper` for any timm model.
        text_config: any causal language model of transformers.
        bridge_config: see `LHRSBridgeConfig`. None with `heads_config` is no bridge: the language model sees no image
            and only decides what is asked.
        heads_config: dense heads on the same levels, see `LHRSHeadsConfig`; None is none.
        levels: indices of the tapped encoder levels, shallow to deep. For transformers encoders an index into
            `hidden_states` (0 is the embedding output), for timm an index into `forward_intermediates`.
        image_token_id: id of the placeholder token, repeated once per image token.
        system_prompt: system text of conversations without one; None is that of the model family, "" is none.

    Raises:
        ConfigError: the tapped levels and the bridge's disagree, or a part's type is unknown to transformers.
    """

    model_type = "lhrs"
    sub_configs = {"vision_config": AutoConfig, "text_config": AutoConfig, "bridge_config": LHRSBridgeConfig}

    def __init__(
        self,
        vision_config: dict | PreTrainedConfig | None = None,
        text_config: dict | PreTrainedConfig | None = None,
        bridge_config: dict | LHRSBridgeConfig | None = None,
        levels: tuple[int, ...] | list[int] = (7, 15, 22),
        image_token_id: int = 32000,
        system_prompt: str | None = None,
        heads_config: dict | LHRSHeadsConfig | None = None,
        **kwargs: Any,
    ) -> None:
        self.system_prompt = system_prompt
        self.vision_config = _sub_config(vision_config, "clip_vision_model")
        self.text_config = _sub_config(text_config, "llama")
        self.heads_config = LHRSHeadsConfig(**heads_config) if isinstance(heads_config, dict) else heads_config
        if not isinstance(bridge_config, LHRSBridgeConfig) and (bridge_config is not None or heads_config is None):
            bridge_config = LHRSBridgeConfig(**(bridge_config or {}))
        self.bridge_config = bridge_config
        self.levels = list(levels)
        if bridge_config is not None and len(self.levels) != len(bridge_config.queries):
            raise ConfigError(f"{len(self.levels)} levels are tapped but the bridge has {len(bridge_config.queries)}")
        self.image_token_id = image_token_id
        kwargs.setdefault("tie_word_embeddings", getattr(self.text_config, "tie_word_embeddings", False))
        super().__init__(**kwargs)


def _sub_config(config: dict | PreTrainedConfig | None, default: str) -> PreTrainedConfig:
    if isinstance(config, dict):
        config = dict(config)
        kind = config.pop("model_type", default)
        if kind not in CONFIG_MAPPING:
            raise ConfigError(
                f"this version of transformers does not know the model type {kind!r}; update transformers"
            )
        return CONFIG_MAPPING[kind].from_dict(config)
    return config if config is not None else CONFIG_MAPPING[default]()
