"""Score the embedded model on held-out images: `python -m lhrs.nano.evaluate --data DIR --out results/lhrs-nano`.

Every question is asked through the public `Assistant`, greedily, with its default prompts. Beside each score stand
what a constant answer and the model without the right image reach. Answers are compared exactly after a declared
normalisation: lower case, no spaces, underscores, hyphens or final full stop.
"""

import argparse
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lhrs.boxes import iou
from lhrs.inference.assistant import Assistant
from lhrs.inference.runtime import Request
from lhrs.metrics.statistics import auroc, bootstrap, wilson
from lhrs.nano.building_tasks import referring
from lhrs.nano.image_facts import ImageFacts
from lhrs.nano.osm_tiles import Site, read_sites
from lhrs.nano.phrasing import Draw
from lhrs.nano.templates import ABSTAIN, load_banks

HELD_OUT_COLUMNS = [386693, 386694]
"""Tile columns of Banepa that training never sees."""
SEED = 0


@dataclass
class Row:
    """One line of the table."""

    task: str
    metric: str
    n: int
    score: float
    low: float
    high: float
    baselines: dict[str, float]
    target: str = ""


def normal(text: str) -> str:
    """Fold case, spaces, underscores, hyphens and the final full stop."""
    return re.sub(r"[\s_\-]+", "", text.lower()).rstrip(".")


class NanoEvaluation:
    """Asks and counts.

    Args:
        assistant: the model.
        data: folder with `eurosat/`, `ucmerced/`, `banepa/` as the data README describes.
        limit: images per set; None for all.
    """

    def __init__(self, assistant: Assistant, data: Path, limit: int | None) -> None:
        self.assistant, self.data, self.banks = assistant, data, load_banks()
        self.rows: list[Row] = []
        self.details: dict[str, list] = {}
        rng = np.random.default_rng(SEED)
        self.eurosat = [(p, p.parent.name) for p in sorted((data / "eurosat/test").rglob("*.*"))]
        listed = [json.loads(line) for line in (data / "ucmerced/index.jsonl").read_text().splitlines()]
        self.ucmerced = [(data / "ucmerced" / r["file"], r["label"]) for r in listed if r["split"] == "val"]
        if limit:
            self.eurosat, self.ucmerced = (
                [s[i] for i in rng.permutation(len(s))[:limit]] for s in (self.eurosat, self.ucmerced)
            )

    def ask(
        self,
        items: Sequence[tuple[Path | np.ndarray, str]],
        blind: bool = False,
        options: tuple[str, ...] | None = None,
    ) -> list[str]:
        """Ask one question per image.

        Args:
            items: (image, question) pairs.
            blind: ask without any image. Then the model rightly says that it cannot tell; `options` make it guess.
            options: the only answers allowed.
        """
        out: list[str] = []
        from lhrs.imagery.image import open_image

        for start in range(0, len(items), 64):
            requests = []
            for image, question in items[start : start + 64]:
                pixels = image if isinstance(image, np.ndarray) else open_image(image).pixels
                requests.append(Request(() if blind else (pixels,), question, options))
            out += [r.text for r in self.assistant.runtime.generate(requests)]
        return out

    def proportion(self, task: str, hits: Sequence[bool], target: str = "", **baselines: float) -> None:
        """Add a row for a share of right answers."""
        low, high = wilson(int(sum(hits)), len(hits))
        self.rows.append(Row(task, "accuracy", len(hits), float(np.mean(hits)), low, high, baselines, target))

    def classes(self) -> None:
        """Scene class in free text and among all labels; caption names the class."""
        for name, items, target in (("eurosat", self.eurosat, ">= 0.95"), ("ucmerced", self.ucmerced, ">= 0.80")):
            right = [self.banks.name(name, label) for _, label in items]
            majority = max(right.count(r) for r in set(right)) / len(right)
            answers = [a.answer for a in self.assistant.classify_all([p for p, _ in items])]
            self.details[f"{name} class"] = list(zip(right, answers, strict=True))
            self.proportion(
                f"{name}: class, free text",
                [normal(a) == normal(r) for a, r in zip(answers, right, strict=True)],
                target,
                majority=majority,
            )
            labels = sorted({label for _, label in items})
            answers = [a.answer for a in self.assistant.classify_all([p for p, _ in items], labels)]
            self.proportion(
                f"{name}: class, labels given",
                [a == label for a, (_, label) in zip(answers, items, strict=True)],
                majority=majority,
            )
            answers = [a.answer for a in self.assistant.caption_all([p for p, _ in items])]
            self.proportion(
                f"{name}: caption names the class",
                [normal(r) in normal(a) for a, r in zip(answers, right, strict=True)],
                ">= 0.88" if name == "eurosat" else "",
                majority=majority,
            )

    def choices(self) -> None:
        """Four lettered options, right answer position drawn at random."""
        for name, items, target in (("eurosat", self.eurosat, ">= 0.90"), ("ucmerced", self.ucmerced, "")):
            rng = np.random.default_rng(SEED)
            keys, asked, letters = sorted(self.banks.classes[name]), [], []
            for path, label in items:
                wrong = [k for k in keys if k != label]
                options = [label, *(wrong[i] for i in rng.permutation(len(wrong))[:3])]
                order = rng.permutation(4)
                lines = "\n".join(f"{'abcd'[n]}. {self.banks.name(name, options[o])}" for n, o in enumerate(order))
                asked.append((path, f"which option describes the image?\n{lines}\nanswer with the letter."))
                letters.append("abcd"[int(np.flatnonzero(order == 0)[0])])
            blind = np.mean([a == b for a, b in zip(self.ask(asked, True, tuple("abcd")), letters, strict=True)])
            hits = [a == b for a, b in zip(self.ask(asked), letters, strict=True)]
            self.proportion(f"{name}: multiple choice of 4", hits, target, chance=0.25, blind=float(blind))

    def presence(self) -> None:
        """Is there a (class)? Half yes, half no with another class; default and unseen phrasings."""
        for name, items, target in (("eurosat", self.eurosat, ">= 0.85"), ("ucmerced", self.ucmerced, "")):
            for split in ("default", "held_out"):
                rng = np.random.default_rng(SEED)
                draw = Draw(rng, self.banks, "held_out")
                asked, right = [], []
                for n, (path, label) in enumerate(items):
                    key = label if n % 2 == 0 else draw.pick([k for k in self.banks.classes[name] if k != label])
                    thing = self.banks.noun(name, key)
                    phrase = "is there {a_thing} in this image?" if split == "default" else draw.phrase("presence")
                    asked.append((path, phrase.replace("{a_thing}", thing.a_thing).replace("{things}", thing.things)))
                    right.append("yes" if n % 2 == 0 else "no")
                base = {"constant": max(right.count("yes"), right.count("no")) / len(right)}
                if split == "default":
                    base["blind"] = float(
                        np.mean([a == b for a, b in zip(self.ask(asked, True, ("yes", "no")), right, strict=True)])
                    )
                    others = [asked[i][0] for i in rng.permutation(len(asked))]
                    shuffled = [(o, q) for o, (_, q) in zip(others, asked, strict=True)]
                    base["shuffled"] = float(np.mean([a == b for a, b in zip(self.ask(shuffled), right, strict=True)]))
                hits = [a == b for a, b in zip(self.ask(asked), right, strict=True)]
                self.proportion(
                    f"{name}: presence, {split} wording", hits, target if split == "default" else "", **base
                )

    def wording(self) -> None:
        """Free-text class under phrasings that training never saw."""
        draw = Draw(np.random.default_rng(SEED), self.banks, "held_out")
        asked = [(path, draw.phrase("scene")) for path, _ in self.eurosat]
        hits = [
            normal(a) == normal(self.banks.name("eurosat", label))
            for a, (_, label) in zip(self.ask(asked), self.eurosat, strict=True)
        ]
        self.proportion("eurosat: class, unseen wording", hits)

    def buildings(self) -> None:
        """Counts and boxes on tiles held back from training, whole and in quarters."""
        folder = self.data / "banepa/train/oam"
        held = _windows(read_sites(folder, "../osm.geojson", HELD_OUT_COLUMNS, held_out=True))
        seen = _windows(read_sites(folder, "../osm.geojson", HELD_OUT_COLUMNS, held_out=False))
        median = float(np.median([len(b) for _, b in seen]))
        truth = np.array([len(b) for _, b in held])
        question = "how many buildings are there?"
        counted = lambda texts: np.array([int(t) if t.isdigit() else 0 for t in texts])  # noqa: E731
        errors = abs(counted(self.ask([(p, question) for p, _ in held])) - truth)
        numbers = tuple(str(n) for n in range(1, 100))
        blind = abs(counted(self.ask([(p, question) for p, _ in held], True, numbers)) - truth).mean()
        low, high = bootstrap(errors)
        self.rows.append(
            Row(
                "buildings: count",
                "mean absolute error",
                len(held),
                float(errors.mean()),
                low,
                high,
                {"constant": float(abs(truth - median).mean()), "blind": float(blind)},
                "< baselines",
            )
        )
        self._grounding(held, seen)

    def _grounding(self, held: list, seen: list) -> None:
        from lhrs.boxes import parse_boxes

        draw = Draw(np.random.default_rng(SEED), self.banks, "train")
        cases = []
        for pixels, boxes in held:
            for _ in range(3):
                found = referring(ImageFacts("sites", buildings=boxes), draw)
                if found:
                    cases.append((pixels, f"locate {found[0]}.", found[1]))
        constant = np.mean([b.mean(0) for _, b in seen if len(b)], 0)
        overlap = lambda a, b: float(iou(a[None], b[None])[0, 0])  # noqa: E731

        def accuracy(texts: list[str]) -> list[bool]:
            boxes = [parse_boxes(t, (1, 1), "loc64").boxes for t in texts]
            return [len(b) > 0 and overlap(b[0], c[2]) >= 0.5 for b, c in zip(boxes, cases, strict=True)]

        asked = [(p, q) for p, q, _ in cases]
        grey = [(np.full_like(p, 128), q) for p, q in asked]
        self.proportion("buildings: grounding acc@0.5", accuracy(self.ask(asked)), "> baselines",
                        constant=float(np.mean([overlap(constant, c[2]) >= 0.5 for c in cases])),
                        blind=float(np.mean(accuracy(self.ask(asked, blind=True)))),
                        grey=float(np.mean(accuracy(self.ask(grey)))))  # fmt: skip
        some = [(p, b) for p, b in held if 1 <= len(b) <= 24]
        matched = predicted = real = 0
        for text, (_, boxes) in zip(self.ask([(p, "locate the buildings.") for p, _ in some]), some, strict=True):
            guess = parse_boxes(text, (1, 1), "loc64").boxes
            predicted, real = predicted + len(guess), real + len(boxes)
            matched += _match(guess, boxes)
        f1 = 2 * matched / max(predicted + real, 1)
        self.rows.append(Row("buildings: all boxes, F1@0.5", "F1", real, f1, float("nan"), float("nan"), {}))

    def abstention(self) -> None:
        """Questions nobody can answer from above, and answerable ones that must not be refused."""
        rng = np.random.default_rng(SEED)
        questions = [
            self.banks.unanswerable["held_out"][i]
            for i in rng.permutation(len(self.banks.unanswerable["held_out"]))[:50]
        ]
        pool = [*self.eurosat, *self.ucmerced]
        asked = [(pool[int(rng.integers(len(pool)))][0], q) for q in questions for _ in range(4)]
        refused = [a == ABSTAIN for a in self.ask(asked)]
        self.proportion("abstains on unanswerable (unseen)", refused, ">= 0.90")
        draw = Draw(rng, self.banks, "held_out")
        answerable = []
        for i in rng.permutation(len(pool))[:600]:
            path, label = pool[i]
            name = "eurosat" if "eurosat" in str(path) else "ucmerced"
            thing = self.banks.noun(name, label)
            kind = draw.pick(["scene", "caption", "presence", "is_class"])
            text = draw.phrase(kind).replace("{a_thing}", thing.a_thing).replace("{things}", thing.things)
            answerable.append((path, text.replace("{thing}", self.banks.name(name, label))))
        self.proportion(
            "abstains on answerable (unseen wording)", [a == ABSTAIN for a in self.ask(answerable)], "<= 0.03"
        )

    def familiarity(self, strange: dict[str, list[np.ndarray]]) -> None:
        """AUROC of the familiarity distance: held-out images against each kind of strange image."""
        from lhrs.imagery.image import open_image

        runtime = self.assistant.runtime
        distance = lambda pixels: runtime.ood_score(pixels)  # noqa: E731
        rng = np.random.default_rng(SEED)
        known = [self.eurosat[i][0] for i in rng.permutation(len(self.eurosat))[:400]] + [p for p, _ in self.ucmerced]
        inside = np.array([distance(open_image(p).pixels) for p in known])
        parts = {name: np.array([distance(p) for p in images]) for name, images in strange.items() if images}
        each = {name: auroc(inside, values) for name, values in parts.items()}
        score = float(np.mean(list(each.values())))
        self.rows.append(Row("unfamiliar images, AUROC (mean of kinds)", "AUROC", sum(map(len, parts.values())), score,
                             float("nan"), float("nan"), each, ">= 0.90"))  # fmt: skip
        self.rows.append(
            Row(
                "familiar images wrongly flagged",
                "share",
                len(inside),
                float((inside > runtime.ood_threshold).mean()),
                *wilson(int((inside > runtime.ood_threshold).sum()), len(inside)),
                {},
            )
        )


def _windows(sites: list[Site]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (pixels, unit boxes) of each tile, whole and in quarters; windows without buildings are left out."""
    from lhrs.imagery.reader import open_source

    out = []
    for site in sites:
        pixels = open_source(site.image).read(bands=(1, 2, 3))[0].transpose(1, 2, 0)
        side, boxes = len(pixels), np.array(site.boxes, float).reshape(-1, 4)
        half = side // 2
        for x, y, s in ((0, 0, side), (0, 0, half), (half, 0, half), (0, half, half), (half, half, half)):
            moved = (boxes - [x, y, x, y]) / s
            inside = moved.clip(0, 1)
            area = lambda b: (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])  # noqa: E731
            kept = inside[(area(inside) > 0.3 * area(moved)) & (area(inside) > 0)]
            if len(kept):
                out.append((np.ascontiguousarray(pixels[y : y + s, x : x + s]), kept))
    return out


def _match(guess: np.ndarray, boxes: np.ndarray) -> int:
    """Count one-to-one matches at IoU 0.5, greedily by overlap."""
    overlap = iou(guess, boxes)
    count = 0
    while overlap.size and overlap.max() >= 0.5:
        i, j = np.unravel_index(overlap.argmax(), overlap.shape)
        overlap[i], overlap[:, j] = -1, -1
        count += 1
    return count


def table(rows: list[Row]) -> str:
    """Return the Markdown table."""
    lines = ["| task | metric | n | score | 95 % CI | beside it | target |", "|---|---|---|---|---|---|---|"]
    for r in rows:
        interval = "" if np.isnan(r.low) else f"{r.low:.3f} - {r.high:.3f}"
        beside = ", ".join(f"{k} {v:.3f}" for k, v in r.baselines.items())
        lines.append(f"| {r.task} | {r.metric} | {r.n} | **{r.score:.3f}** | {interval} | {beside} | {r.target} |")
    return "\n".join(lines)


def main() -> None:
    """Run every score and write `scores.md`, `scores.json` and the answers behind the class scores."""
    from lhrs import load
    from lhrs.nano.ood_images import strange_images

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default=None)
    parser.add_argument("--limit", type=int, default=None)
    options = parser.parse_args()
    scorer = NanoEvaluation(load(options.model), options.data, options.limit)
    steps: list[Callable[[], None]] = [
        scorer.classes, scorer.wording, scorer.choices, scorer.presence, scorer.buildings, scorer.abstention,
        lambda: scorer.familiarity(strange_images(options.data)),
    ]  # fmt: skip
    for step in steps:
        step()
        print(table(scorer.rows[-2:]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "scores.md").write_text(table(scorer.rows) + "\n")
    (options.out / "scores.json").write_text(json.dumps([asdict(r) for r in scorer.rows], indent=1) + "\n")
    confusion = {
        name: [f"{r} -> {a}" for r, a in pairs if normal(r) != normal(a)] for name, pairs in scorer.details.items()
    }
    (options.out / "class_errors.json").write_text(json.dumps(confusion, indent=1) + "\n")


if __name__ == "__main__":
    main()
