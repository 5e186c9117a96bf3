"""Rows packed or padded, and the bridge against a plain loop: `python benchmarks/training.py [--data DIR] [-n 5]`.

The instruction mix: half captions of one turn (UCM-captions), half conversations of 1 to 12 questions about a tile
(RSVQA), in batches of 16 or 32 as the sampler draws them. Medians; ratios within one run.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lhrs.data.chat_dataset import IGNORE, ChatEncoder
from lhrs.data.collate import Collator
from lhrs.models import LHRSForConditionalGeneration, LHRSProcessor
from lhrs.models.bridge import Bridge
from lhrs.models.configuration import LHRSBridgeConfig
from lhrs.models.encoder import extract_levels
from lhrs.models.modeling import LHRSImageFeatures
from lhrs.models.moe import MixtureOfExperts
from lhrs.models.presets import build_bridge
from lhrs.schema import Sample
from models import random_100m

BATCH = 16


def mix(data: Path, count: int, seed: int = 0) -> list[Sample]:
    """Return conversations over one gray image; how images look does not matter here."""
    rng = np.random.default_rng(seed)
    records = map(json.loads, (data / "ucmerced/index.jsonl").read_text().splitlines())
    captions = [caption for record in records for caption in record["captions"]]
    tables = [json.loads(p.read_text()) for p in sorted((data / "rsvqa").rglob("*.json"))]
    questions = [q["question"] for table in tables for q in table.get("questions", []) if q.get("question")]
    picture = str(Path(__file__).parents[1] / "examples/river.tif")
    samples = []
    for n in range(count):
        if n % 2:
            turns = [("describe the image.", captions[int(rng.integers(len(captions)))])]
        else:
            some = rng.integers(len(questions), size=int(rng.integers(1, 13)))
            turns = [(questions[int(i)], ("yes", "no", "12", "rural")[int(i) % 4]) for i in some]
        chat = [{"role": r, "text": t} for q, a in turns for r, t in (("user", q), ("assistant", a))]
        samples.append(Sample(id=str(n), images=[picture], turns=chat, source="mix", license="none"))
    return samples


def median_s(what: Callable[[], object], rounds: int) -> float:
    timings = []
    for _ in range(rounds):
        start = time.perf_counter()
        what()
        timings.append(time.perf_counter() - start)
    return float(np.median(timings))


def rest_encoder(model: LHRSForConditionalGeneration) -> None:
    """Let the model take for every image what its encoder makes of a gray one now."""
    inner = model.model
    size = inner.vision_tower.config.to_dict().get("image_size", 128)
    with torch.no_grad():
        levels, grids = extract_levels(inner.vision_tower, torch.zeros(1, 3, size, size), model.config.levels)

    def features(pixel_values: torch.Tensor, *_: object, **__: object) -> LHRSImageFeatures:
        bridged = inner.bridge([x.expand(len(pixel_values), -1, -1) for x in levels], grids)
        return LHRSImageFeatures(pooler_output=bridged.tokens, bridge=bridged)

    inner.get_image_features = features  # type: ignore[method-assign]


def packing(
    name: str,
    model: LHRSForConditionalGeneration,
    processor: LHRSProcessor,
    samples: list[Sample],
    rounds: int,
    size: int,
    row: int | None = None,
) -> None:
    """Time forward and backward over batches of the mix.

    The encoder is frozen; as with `cache_features`, what it makes of the image is computed before. Rows are of
    `row` tokens, or as long as the longest sample: longer ones have fewer gaps, but a wider attention mask, which is
    felt where layers are narrow.
    """
    encoder = ChatEncoder(processor)
    rows = [encoder.encode(sample) for sample in samples]
    rest_encoder(model)
    longest = max(len(row["input_ids"]) for row in rows)
    batches = [rows[n : n + size] for n in range(0, len(rows), size)]

    def step(batch: dict[str, torch.Tensor]) -> None:
        model.zero_grad()
        count = (batch["labels"][:, 1:] != IGNORE).sum()
        model(use_cache=False, num_items_in_batch=count, **batch).loss.backward()

    timings: dict[str, list[float]] = {"padded": [], "packed": []}
    tokens = {}
    for way, pack in (("padded", None), ("packed", row or longest)):
        made = [Collator(0, pack)(batch) for batch in batches]
        tokens[way] = sum(batch["input_ids"].numel() for batch in made)
        step(made[0])
        timings[way] = [median_s(lambda batch=batch: step(batch), rounds) for batch in made]
    real = sum(len(row["input_ids"]) for row in rows)
    padded, packed = (sum(timings[way]) for way in ("padded", "packed"))
    shortest = min(len(r["input_ids"]) for r in rows)
    print(f"{name}, batches of {size}: {len(rows)} samples of {shortest} to {longest} tokens, {real} in all")
    print(f"  padded {tokens['padded']} tokens, {padded:.2f} s; packed {tokens['packed']}, {packed:.2f} s: "
          f"{padded / packed:.2f} x", flush=True)  # fmt: skip


class PlainBridge(nn.Module):
    """The same sizes the straightforward way: one level after the other, torch's own attention module."""

    def __init__(self, config: LHRSBridgeConfig, out: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.config, self.query = config, nn.Parameter(torch.randn(1, config.num_tokens, width) * 0.02)
        block = lambda: nn.ModuleDict({  # noqa: E731
            "q": nn.LayerNorm(width), "kv": nn.LayerNorm(width), "x": nn.LayerNorm(width),
            "attention": nn.MultiheadAttention(width, config.num_heads, batch_first=True),
            "mlp": nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)),
        })  # fmt: skip
        self.blocks, self.out = nn.ModuleList(block() for _ in range(config.num_layers)), nn.Linear(width, out)

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        found = []
        for image, query in zip(levels, self.query.split(self.config.queries, 1), strict=True):
            x = query.expand(len(image), -1, -1)
            keys = torch.cat([x, image], 1) if self.config.keys_include_queries else image
            for b in self.blocks:
                kv = b["kv"](keys)
                x = x + b["attention"](b["q"](x), kv, kv, need_weights=False)[0]
                x = x + b["mlp"](b["x"](x))
            found.append(x)
        return self.out(torch.cat(found, 1))


def bridges(rounds: int) -> None:
    """LHRS-Bot's bridge at its real size, four images, forward and backward."""
    config = build_bridge("lhrs-bot-7b")
    ours, plain = Bridge(config, 4096), PlainBridge(config, 4096)
    levels = [torch.randn(4, 256, 1024) for _ in config.queries]
    run = {
        "ours": lambda: ours(levels, [(16, 16)] * 3).tokens.sum().backward(),
        "plain": lambda: plain(levels).sum().backward(),
    }
    timings = {name: median_s(what, rounds + 1) for name, what in run.items()}
    print(f"bridge of LHRS-Bot, 4 images: loop {timings['plain']:.2f} s, ours {timings['ours']:.2f} s: "
          f"{timings['plain'] / timings['ours']:.2f} x", flush=True)  # fmt: skip


def experts(rounds: int) -> None:
    """Nova's experts: tokens grouped by expert, against every expert over every token."""
    config = build_bridge("lhrs-bot-nova-8b", num_experts=4)
    mixture = MixtureOfExperts(config, 4 * config.hidden_size)
    for weight in mixture.parameters():
        nn.init.normal_(weight, std=0.02)
    x = torch.randn(2, 272, config.hidden_size)

    def loop() -> torch.Tensor:
        logits = mixture.router(x)
        top, chosen = logits.topk(2, -1)
        weight = torch.zeros_like(logits).scatter(-1, chosen, top.softmax(-1))
        flat = x.flatten(0, 1)
        return sum(mixture.experts(e, flat).view_as(x) * weight[..., e, None] for e in range(4))

    torch.testing.assert_close(loop(), mixture(x)[0], atol=1e-4, rtol=1e-3)
    slow = median_s(lambda: loop().sum().backward(), rounds)
    fast = median_s(lambda: mixture(x)[0].sum().backward(), rounds)
    print(f"experts of Nova, 544 tokens: all {slow:.2f} s, grouped {fast:.2f} s: {slow / fast:.2f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data")
    parser.add_argument("-n", type=int, default=3, help="rounds")
    options = parser.parse_args()
    samples = mix(options.data, 6 * BATCH)
    model, processor = random_100m()
    packing("99 M random", model.train(), processor, samples[: 2 * BATCH], options.n, BATCH, 1024)
    bridges(options.n)
    experts(options.n)


if __name__ == "__main__":
    main()
