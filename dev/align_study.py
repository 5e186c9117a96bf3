"""Do captions made from OpenStreetMap help? The embedded model's bridge learns anew, with and without them.

    python dev/align_study.py --data ../shared/data --out results/align/study.jsonl [--steps 300] [--seeds 0,1,2]
    python dev/align_study.py --table --out results/align/study.jsonl

Encoder and language model are lhrs-nano's, the bridge begins at random. Windows of Banepa and of four OpenAerialMap
sites are described by `lhrs align build`; from their facts come two questions each: how many buildings there are, and
how much of the image they cover, to five percent. Three ways, each over seeds of bridge and batches:

- questions: bridge and language model learn `steps` batches of 32 questions;
- captions-first: the bridge alone learns steps/2 batches of captions (stage 1), then the same as above;
- questions-longer: questions for 1.5 * steps batches, the same number of batches as captions-first.

Scored on tiles that nothing was trained on (Banepa columns 386693 and 386694): mean errors of counts and of percents,
beside those of the training median; and the share of the captions' claims that the facts bear out (only captions-first
has seen captions).
"""

import argparse
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lhrs.align.build import Build, build
from lhrs.align.claims import check
from lhrs.align.records import facts_of, read_index
from lhrs.imagery.open import open_image
from lhrs.models.modeling import LHRSForConditionalGeneration
from lhrs.models.processing import LHRSProcessor

HELD_OUT = re.compile(r"OAM-38669[34]-")
PACKAGE = Path(__file__).parents[1] / "src/lhrs/resources/lhrs-nano"
ASK = {"count": "how many buildings are there?", "percent": "how many percent of the image do buildings cover?"}
ASK_CAPTION = "describe the image."


def collect(data: Path) -> tuple[list[dict], list[dict]]:
    """Return windows to learn from and windows to be scored on: pixels, facts, caption, questions with answers."""
    found: tuple[list[dict], list[dict]] = ([], [])
    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            (data / "banepa/train/banepa_buildings.osm.pbf", data / "banepa/train/oam", size) for size in (128, 256)
        ]
        jobs += [(data / f"oam_osm_sites/{n}/labels.geojson", data / f"oam_osm_sites/{n}", 128) for n in (1, 2, 3, 4)]
        for number, (osm, imagery, size) in enumerate(jobs):
            out = Path(folder) / str(number)
            build(Build(osm, out, (imagery,), size=size, untagged="building"))
            for row in read_index(out).to_pylist():
                facts = facts_of(row["facts"])
                buildings = next(fact for fact in facts if fact.kind == "building")
                window = {
                    "facts": facts, "caption": row["caption"].lower(),
                    "pixels": open_image(out / row["image"], None).pixels,
                    "count": buildings.num_visible, "percent": 5 * round(20 * buildings.area_share),
                }  # fmt: skip
                found[bool(HELD_OUT.search(row["id"]))].append(window)
    return found


class Learner:
    """The model, and what turns text into tokens."""

    def __init__(self, seed: int) -> None:
        self.model: Any = LHRSForConditionalGeneration.from_pretrained(PACKAGE, dtype=torch.float32)
        self.processor: Any = LHRSProcessor.from_pretrained(PACKAGE)
        torch.manual_seed(seed)
        fresh = LHRSForConditionalGeneration(self.model.config).model.bridge.state_dict()
        self.model.model.bridge.load_state_dict(fresh)
        self.rng = np.random.default_rng(seed)

    def learn(
        self, pairs: list[tuple[int, str, str]], pixels: torch.Tensor, steps: int, rate: float, stage: int
    ) -> None:
        """Learn (window, question, answer) triples in batches of 32."""
        model = self.model.train()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("bridge" in name or (stage == 2 and "language_model" in name))
        learned = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(learned, lr=rate, betas=(0.9, 0.95), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
        for step in range(steps):
            picked = [pairs[i] for i in self.rng.integers(0, len(pairs), 32)]
            ids, mask, labels = self.tokens([(q, a) for _, q, a in picked])
            image = pixels[[i for i, _, _ in picked]]
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(input_ids=ids, attention_mask=mask, pixel_values=image, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
            schedule.step()
            if step % 50 == 0:
                print(stage, step, round(float(loss.detach()), 3), flush=True)
        model.eval()

    def tokens(self, pairs: list[tuple[str, str]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return ids, mask and labels, padded on the right; only answers are learned."""
        tokenizer = self.processor.tokenizer
        rows = []
        for question, answer in pairs:
            image = "<image>" * self.processor.num_image_tokens
            begin = tokenizer(f"<bos><user>{image}{question}<answer>", add_special_tokens=False)["input_ids"]
            end = tokenizer(f"{answer}<eos>", add_special_tokens=False)["input_ids"]
            rows.append((begin, end))
        longest = max(len(b) + len(e) for b, e in rows)
        ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
        labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
        for n, (begin, end) in enumerate(rows):
            whole = torch.tensor(begin + end)
            ids[n, : len(whole)], mask[n, : len(whole)] = whole, 1
            labels[n, len(begin) : len(whole)] = torch.tensor(end)
        return ids, mask, labels

    @torch.inference_mode()
    def answer(self, asked: list[tuple[int, str]], pixels: torch.Tensor, most: int) -> list[str]:
        """Answer greedily."""
        tokenizer, found = self.processor.tokenizer, []
        image = "<image>" * self.processor.num_image_tokens
        for start in range(0, len(asked), 64):
            part = asked[start : start + 64]
            texts = [f"<bos><user>{image}{question}<answer>" for _, question in part]
            inputs = tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
            out = self.model.generate(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"],
                pixel_values=pixels[[i for i, _ in part]], max_new_tokens=most, do_sample=False,
            )  # fmt: skip
            found += tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return [text.strip() for text in found]


def as_pixels(processor: Any, windows: list[dict]) -> torch.Tensor:
    """Return what the encoder sees."""
    return processor.image_processor(images=[w["pixels"] for w in windows], return_tensors="pt")["pixel_values"]


def score(learner: Learner, windows: list[dict]) -> dict[str, float]:
    """Return scores on windows that were not learned from."""
    pixels = as_pixels(learner.processor, windows)
    found: dict[str, float] = {}
    for what, question in ASK.items():
        replies = learner.answer([(i, question) for i in range(len(windows))], pixels, 8)
        errors = [
            abs((int(reply) if reply.isdecimal() else 0) - w[what]) for reply, w in zip(replies, windows, strict=True)
        ]
        found[what] = float(np.mean(errors))
    told = learner.answer([(i, ASK_CAPTION) for i in range(len(windows))], pixels, 60)
    claims = [check(text, w["facts"], exact=False) for text, w in zip(told, windows, strict=True)]
    held = [c.verdict == "supported" for one in claims for c in one]
    found["claims"] = float(np.mean(held)) if held else 0.0
    found["captions_with_claims"] = float(np.mean([bool(one) for one in claims]))
    return found


def run(options: argparse.Namespace) -> None:
    """Learn and score what is missing."""
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    train, test = collect(options.data)
    print(len(train), "windows to learn from,", len(test), "to be scored on", flush=True)
    constant = {w: float(np.mean([abs(t[w] - np.median([u[w] for u in train])) for t in test])) for w in ASK}
    questions = [(i, q, str(w[what])) for i, w in enumerate(train) for what, q in ASK.items()]
    captions = [(i, ASK_CAPTION, w["caption"]) for i, w in enumerate(train)]
    for seed in map(int, options.seeds.split(",")):
        for arm in ("questions", "captions-first", "questions-longer"):
            if any((r["arm"], r["seed"], r["steps"]) == (arm, seed, options.steps) for r in done):
                continue
            start, learner = time.time(), Learner(seed)
            pixels = as_pixels(learner.processor, train)
            if arm == "captions-first":
                learner.learn(captions, pixels, options.steps // 2, 1e-3, 1)
            longer = options.steps + options.steps // 2 if arm == "questions-longer" else options.steps
            learner.learn(questions, pixels, longer, 1e-3, 2)
            found, seconds = score(learner, test), time.time() - start
            row = {"arm": arm, "seed": seed, "steps": options.steps, **found, "seconds": seconds, "constant": constant}
            print(row, flush=True)
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


def table(path: Path) -> None:
    """Print means over seeds with 95 % intervals (Student's t)."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    names = ("count", "percent", "claims")
    print("constant:", rows[0]["constant"])
    print("| arm | seeds | " + " | ".join(names) + " |\n|---|---|" + "---|" * len(names))
    for arm in dict.fromkeys(r["arm"] for r in rows):
        mine = [r for r in rows if r["arm"] == arm]
        spread = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}.get(len(mine), float("nan"))
        cells = []
        for name in names:
            values = np.array([r[name] for r in mine])
            half = spread * values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
            cells.append(f"{values.mean():.3f} ± {half:.3f}")
        print(f"| {arm} | {len(mine)} | {' | '.join(cells)} |")


def main() -> None:
    """Run, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("results/align/study.jsonl"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        table(options.out)
    else:
        run(options)


if __name__ == "__main__":
    main()
