"""The bridge, written once and configured twice."""

import math

import pytest
import torch

from lhrs.errors import ConfigError
from lhrs.models import LHRSBridgeConfig, LHRSConfig
from lhrs.models.bridge import Bridge, sincos2d
from lhrs.models.presets import build_bridge

GRIDS = [(4, 4), (4, 4), (2, 2)]


def make(style: str, **changes) -> Bridge:
    settings = {
        "v1": {"keys_include_queries": True},
        "nova": {"key_positions": "sincos2d", "outer_norms": True},
    }[style]
    torch.manual_seed(0)
    sizes = {"queries": [4, 3, 2], "hidden_size": 16, "num_layers": 2, "num_heads": 2}
    bridge = Bridge(LHRSBridgeConfig(**{**sizes, **settings, **changes}), 24)
    torch.nn.init.normal_(bridge.query)
    return bridge.eval()


@pytest.fixture
def levels():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, rows * columns, 16, generator=generator) for rows, columns in GRIDS]


@pytest.mark.parametrize(
    ("preset", "changes", "tokens", "millions"),
    [
        ("lhrs-bot-7b", {}, 144, 79.94),
        ("lhrs-bot-nova-8b", {}, 272, 100.70),
        ("lhrs-bot-nova-8b", {"num_experts": 4, "expert_style": "nova_linear"}, 272, 291.96),
    ],
)
def test_presets_have_the_published_size(preset, changes, tokens, millions):
    config = build_bridge(preset, **changes)
    with torch.device("meta"):
        bridge = Bridge(config, 4096)
    assert config.num_tokens == tokens
    assert sum(p.numel() for p in bridge.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)


@pytest.mark.parametrize("style", ["v1", "nova"])
@torch.no_grad()
def test_images_become_tokens_of_the_language_width(style, levels):
    assert make(style)(levels, GRIDS).tokens.shape == (2, 9, 24)


@pytest.mark.parametrize("style", ["v1", "nova"])
@torch.no_grad()
def test_levels_and_images_do_not_see_each_other(style, levels):
    bridge = make(style)
    before = bridge(levels, GRIDS).tokens
    levels[1][0] += 1
    after = bridge(levels, GRIDS).tokens
    changed = (before != after).any(-1)
    assert changed[0].tolist() == [False] * 4 + [True] * 3 + [False] * 2
    assert not changed[1].any()


@torch.no_grad()
def test_only_nova_knows_where_a_token_lies(levels):
    mixed = [x.flip(1) for x in levels]
    for style, same in (("v1", True), ("nova", False)):
        bridge = make(style)
        assert torch.allclose(bridge(levels, GRIDS).tokens, bridge(mixed, GRIDS).tokens, atol=1e-5) is same


@torch.no_grad()
def test_only_in_the_first_bridge_do_queries_of_a_level_see_each_other(levels):
    for style, seen in (("v1", True), ("nova", False)):
        bridge = make(style)
        before = bridge(levels, GRIDS).tokens
        bridge.query[0, 0] += torch.linspace(-1, 1, 16)
        changed = (before != bridge(levels, GRIDS).tokens).any(-1)[0]
        assert changed.tolist() == [True] + [seen] * 3 + [False] * 5


@torch.no_grad()
def test_levels_may_differ_in_width():
    bridge = make("nova", level_sizes=[8, 16, 32])
    levels = [torch.randn(1, rows * columns, c) for (rows, columns), c in zip(GRIDS, (8, 16, 32), strict=True)]
    assert bridge(levels, GRIDS).tokens.shape == (1, 9, 24)


def test_the_number_of_levels_must_fit(levels):
    with pytest.raises(ValueError, match="reads 3 levels, got 2"):
        make("v1")(levels[:2], GRIDS[:2])


def test_positions_follow_the_formula():
    table = sincos2d((2, 3), 8, torch.zeros(())).view(2, 3, 8)
    for row in range(2):
        for column in range(3):
            for half, place in ((0, column), (4, row)):
                for i in range(2):
                    angle = place * 10000 ** (-i / 2)
                    assert table[row, column, half + i] == pytest.approx(math.sin(angle), abs=1e-6)
                    assert table[row, column, half + 2 + i] == pytest.approx(math.cos(angle), abs=1e-6)


def test_grid_queries_begin_at_their_own_place():
    bridge = make("nova", queries=[4, 1, 9], query_init="grid")
    bridge.init_weights()
    assert torch.equal(bridge.query[0, :4], sincos2d((2, 2), 16, bridge.query))
    assert torch.equal(bridge.layers[1].k_proj.weight, bridge.layers[1].q_proj.weight)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"hidden_size": 10, "num_heads": 4}, "not divisible by num_heads 4"),
        ({"num_experts": 4, "top_k": 5}, "top_k must be between 1 and num_experts=4"),
        ({"key_positions": "learned"}, "key_positions must be one of none, sincos2d"),
        ({"level_sizes": [8]}, "1 entries for 3 levels"),
        ({"queries": [3], "query_init": "grid"}, "square numbers"),
    ],
)
def test_contradicting_settings_are_refused(settings, match):
    with pytest.raises(ConfigError, match=match):
        LHRSBridgeConfig(**settings)


def test_taps_must_fit_the_bridge():
    with pytest.raises(ConfigError, match="2 levels are tapped but the bridge has 3"):
        LHRSConfig(levels=[1, 2])


def test_unknown_parts_are_named():
    with pytest.raises(ConfigError, match="does not know the model type 'no_such_encoder'"):
        LHRSConfig(vision_config={"model_type": "no_such_encoder"})
