"""A runtime that answers from the evidence of dense heads: the language model only decides what is asked."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from lhrs.imagery.merge_detections import merge_detections
from lhrs.imagery.windows import SceneWindow, make_windows
from lhrs.inference.families.perception import Perception
from lhrs.inference.model_family import ModelFamily, get_family
from lhrs.inference.ood import OODDetector
from lhrs.inference.runtime import Generation, Request, Runtime
from lhrs.perception.answer import Reply, answer_query, resolve
from lhrs.perception.evidence import Evidence, as_detections, decode
from lhrs.perception.measure import presence
from lhrs.perception.query import Query, parse_query
from lhrs.perception.score_labels import score_labels
from lhrs.perception.settings import overview_size, read_settings
from lhrs.perception.words import find_concept

_KEPT = 64
"""Images whose evidence is kept for further questions."""
_BATCH = 32
_EDGE = 1 / 64
"""Distance from a window's edge, as a fraction of its side, within which a box touches it."""
_CELL_PX = 4
"""Pixels of the image per cell of the joined land-cover map."""
_MAX_GRID_PX = 2048
"""Larger images have larger cells."""
_OVERLAP = 1 / 4
"""Overlap of the windows of a large image, as a fraction of their side."""


class Heads(Protocol):
    """Encoder and dense heads."""

    def perceive(self, pixel_values: np.ndarray, gsd_m: np.ndarray) -> Mapping[str, np.ndarray]:
        """Return the logits of all heads, see `lhrs.models.dense_heads.DenseOutput`.

        Args:
            pixel_values: float32 `(B, 3, H, W)`, normalized; sides are multiples of 32.
            gsd_m: float32 `(B,)` meters per pixel; 0 where unknown.
        """
        ...


@dataclass
class _Kept:
    image: np.ndarray
    """A reference that keeps the identity of the array unique."""
    evidence: Evidence


class PerceptionRuntime:
    """See `Runtime`. Boxes, numbers, areas and presence all come from one evidence per image.

    Args:
        model: a language model that writes queries.
        heads: of the model.
        folder: of the model, with `perception.json` and, if it knows unfamiliar images, `ood.npz`.
    """

    def __init__(self, model: Runtime, heads: Heads, folder: Path) -> None:
        self.model, self.heads, self.settings = model, heads, read_settings(folder)
        detector = folder / "ood.npz"
        self._detector = OODDetector.load(detector) if detector.exists() else None
        self.name: str = model.name
        self.family: ModelFamily = get_family("perception")
        self._kept: OrderedDict[tuple[int, float | None], _Kept] = OrderedDict()

    @property
    def ood_threshold(self) -> float | None:
        """See `Runtime.ood_threshold`."""
        return None if self._detector is None else self._detector.threshold

    def ood_score(self, pixels: np.ndarray) -> float | None:
        """See `Runtime.ood_score`."""
        if self._detector is None:
            return None
        size = overview_size(pixels.shape[1], pixels.shape[0], self.settings.overview_px)
        out = self.heads.perceive(self._prepare(pixels, size)[None], np.zeros(1, np.float32))
        return self._detector.ood_score(out["features"][0])

    def generate(self, requests: Sequence[Request], on_text: Callable[[str], None] | None = None) -> list[Generation]:
        """See `Runtime.generate`; the text is streamed as a whole."""
        requests = [_with_listed_options(request) for request in requests]
        queries = self._queries(requests)
        evidence = self.evidence([(image, r.gsd_m) for r in requests for image in r.images])
        replies = []
        start = 0
        for request, query in zip(requests, queries, strict=True):
            images = evidence[start : start + len(request.images)]
            start += len(request.images)
            replies.append(_answer(request, query, images))
        for request, reply in zip(requests, replies, strict=True):
            if (listen := on_text or request.on_text) is not None:
                listen(reply.text)
        return replies

    def _queries(self, requests: Sequence[Request]) -> list[tuple[Query, tuple[Query, ...]]]:
        """Return the resolved query of each request, and those of its history.

        Each message is read on its own; `resolve` fills in what it leaves to earlier ones. So a conversation can be
        continued from its texts alone, and an early misreading does not mislead the model later.
        """
        texts = [[*(question for question, _ in r.history), r.question] for r in requests]
        last = [len(messages) - 1 for messages in texts]
        todo = dict.fromkeys(
            text
            for request, messages, end in zip(requests, texts, last, strict=True)
            for n, text in enumerate(messages)
            if n < end or request.query is None
        )
        replies = self.model.generate([Request((), text, answer_type="query") for text in todo]) if todo else []
        written = {text: reply.text for text, reply in zip(todo, replies, strict=True)}
        result = []
        for request, messages in zip(requests, texts, strict=True):
            forms = [written[text] for text in messages[:-1]]
            forms.append(request.query if request.query is not None else written[messages[-1]])
            known: list[Query] = []
            for form in forms:
                known.append(resolve(parse_query(form), known))
            result.append((known[-1], tuple(known[:-1])))
        return result

    def evidence(self, images: Sequence[tuple[np.ndarray, float | None]]) -> list[Evidence]:
        """Return the evidence of uint8 images `(H, W, 3)` with their meters per pixel, or None where unknown."""
        keys = [(id(image), gsd_m) for image, gsd_m in images]
        new = {key: image for key, (image, _) in zip(keys, images, strict=True) if key not in self._kept}
        found = {key: _Kept(new[key], value) for key, value in zip(new, self._see(list(new.values()),
                 [gsd_m for _, gsd_m in new]), strict=True)}  # fmt: skip
        result = [(self._kept.get(key) or found[key]).evidence for key in keys]
        self._kept.update(found)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return result

    def _see(self, images: Sequence[np.ndarray], gsd_m: Sequence[float | None]) -> list[Evidence]:
        sizes = [overview_size(x.shape[1], x.shape[0], self.settings.overview_px) for x in images]
        jobs = list(zip(images, sizes, [_scaled(g, x, s) for g, x, s in zip(gsd_m, images, sizes, strict=True)],
                        strict=True))  # fmt: skip
        found = []
        for n, (whole, flag) in enumerate(self._run(jobs)):
            whole = replace(whole, out_of_distribution=flag)
            height, width = images[n].shape[:2]
            if max(height, width) > 1.25 * self.settings.overview_px:
                whole = self._in_detail(images[n], gsd_m[n], whole)
            found.append(whole)
        return found

    def _in_detail(self, image: np.ndarray, gsd_m: float | None, whole: Evidence) -> Evidence:
        """Return the evidence with land cover, objects and tags seen in windows of the image's own resolution."""
        height, width = image.shape[:2]
        side = self.settings.detail_px
        windows = make_windows(width, height, side, round(_OVERLAP * side), layout="even")
        parts = [image[top : top + h, left : left + w] for left, top, w, h in (window.window for window in windows)]
        sizes = [(max(32, 32 * round(x.shape[1] / 32)), max(32, 32 * round(x.shape[0] / 32))) for x in parts]
        seen = [e for e, _ in self._run([(x, s, _scaled(gsd_m, x, s)) for x, s in zip(parts, sizes, strict=True)])]
        return _join(seen, windows, (width, height), whole)

    def _run(self, jobs: Sequence[tuple[np.ndarray, tuple[int, int], float]]) -> list[tuple[Evidence, bool]]:
        """Return evidence and out-of-distribution flag of (pixels, (width, height) to see, meters per pixel)."""
        result: dict[int, tuple[Evidence, bool]] = {}
        settings = self.settings
        for size in dict.fromkeys(size for _, size, _ in jobs):
            members = [n for n, job in enumerate(jobs) if job[1] == size]
            for start in range(0, len(members), _BATCH):
                rows = members[start : start + _BATCH]
                pixel_values = np.stack([self._prepare(jobs[n][0], size) for n in rows])
                out = self.heads.perceive(pixel_values, np.array([jobs[n][2] for n in rows], np.float32))
                for k, n in enumerate(rows):
                    one = {name: value[k] for name, value in out.items()}
                    evidence = decode(one, settings.names, settings.min_scores, settings.temperatures)
                    is_ood = self._detector is not None and self._detector.is_ood(one["features"])
                    result[n] = evidence, is_ood
        return [result[n] for n in range(len(jobs))]

    def _prepare(self, pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Return float32 `(3, H, W)`, resized and normalized."""
        from PIL import Image

        image = Image.fromarray(pixels)
        if image.size != size:
            image = image.resize(size, Image.Resampling.BILINEAR)
        values = np.asarray(image, np.float32) / 255
        return (
            (values - np.array(self.settings.mean, np.float32)) / np.array(self.settings.std, np.float32)
        ).transpose(2, 0, 1)


def _scaled(gsd_m: float | None, image: np.ndarray, size: tuple[int, int]) -> float:
    return 0.0 if gsd_m is None else gsd_m * image.shape[1] / size[0]


def _join(
    parts: Sequence[Evidence], windows: Sequence[SceneWindow], size: tuple[int, int], whole: Evidence
) -> Evidence:
    """Return the evidence of an image of (width, height) from that of its windows; scenes are of the whole."""
    width, height = size
    scale = _CELL_PX * max(1.0, max(size) / _MAX_GRID_PX)
    rows, columns = max(1, round(height / scale)), max(1, round(width / scale))
    total = np.zeros((len(whole.cover_classes), rows, columns), np.float32)
    weight = np.zeros((rows, columns), np.float32)
    names = sorted({d.label for part in parts for d in part.detections})
    boxes, scores, labels, numbers, truncated = [], [], [], [], []
    for part, window in zip(parts, windows, strict=True):
        left, top, w, h = window.window
        r1, r2, c1, c2 = (round(v / scale) for v in (top, top + h, left, left + w))
        r2, c2 = min(max(r2, r1 + 1), rows), min(max(c2, c1 + 1), columns)
        total[:, r1:r2, c1:c2] += _sample(part.cover_map, r2 - r1, c2 - c1)
        weight[r1:r2, c1:c2] += 1
        for detection in part.detections:
            x1, y1, x2, y2 = detection.box
            boxes.append([left + x1 * w, top + y1 * h, left + x2 * w, top + y2 * h])
            scores.append(detection.score)
            labels.append(names.index(detection.label))
            numbers.append(window.number)
            at_edge = x1 <= _EDGE, y1 <= _EDGE, x2 >= 1 - _EDGE, y2 >= 1 - _EDGE
            truncated.append([edge and more for edge, more in zip(at_edge, window.has_neighbor, strict=True)])
    xyxy = np.array(boxes, float).reshape(-1, 4) / [width, height, width, height]
    merged = merge_detections(
        xyxy, np.array(scores, float), np.array(labels, np.int64), np.array(numbers, np.int64), "join_cut",
        truncated=np.array(truncated, bool).reshape(-1, 4),
    )  # fmt: skip
    tags = {tag: max(value, *(part.tags[tag] for part in parts)) for tag, value in whole.tags.items()}
    seen = total / np.maximum(weight, 1)
    return replace(whole, cover_map=seen, detections=as_detections(merged, names), tags=tags)


def _sample(maps: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return `(K, rows, columns)`, nearest."""
    at_row = ((np.arange(rows) + 0.5) * maps.shape[1] / rows).astype(int)
    at_column = ((np.arange(columns) + 0.5) * maps.shape[2] / columns).astype(int)
    return maps[:, at_row][:, :, at_column]


def _with_listed_options(request: Request) -> Request:
    """Move options that a question lists in its text to `options`, which keep the answers that name them."""
    if request.query is not None:
        return request
    stem, listed = Perception.split_options(request.question)
    if request.options is not None and any(option not in listed for option in request.options):
        return replace(request, question=stem)
    return replace(request, question=stem, options=tuple(listed) or None, option_texts=tuple(listed.values()))


def _answer(request: Request, queries: tuple[Query, tuple[Query, ...]], images: Sequence[Evidence]) -> Generation:
    query, history = queries
    if request.options is not None and images:
        reply = _choose(request.options, request.option_texts or request.options, query, images, history)
    else:
        reply = answer_query(query, images, history)
        if request.answer_type == "number" and not reply.text.isdigit():
            reply = replace(reply, text=str(len(reply.boxes)))
    confidence = () if reply.confidence is None else (reply.confidence,)
    return Generation(
        reply.text, (), confidence, np.array([d.box for d in reply.boxes], np.float32).reshape(-1, 4),
        box_labels=tuple(d.label for d in reply.boxes), box_scores=tuple(d.score for d in reply.boxes),
        out_of_distribution=bool(images) and images[0].out_of_distribution,
    )  # fmt: skip


def _choose(
    options: Sequence[str],
    texts: Sequence[str],
    query: Query,
    images: Sequence[Evidence],
    history: Sequence[Query],
) -> Reply:
    """Return the option whose text the answer to the query supports best."""
    plain = [text.strip().lower() for text in texts]
    clause = query.clauses[0]
    if set(plain) <= {"yes", "no"}:
        match = find_concept(clause.arguments[0]) if clause.arguments else None
        probability = 0.5
        if match is not None and match.is_taught:
            part = images[0].within(clause.region)
            probability = presence(match.name, part, clause.region is not None)
        scores = [probability if option == "yes" else 1 - probability for option in plain]
    elif clause.intent == "count" and all(option.isdigit() for option in plain):
        number = len(answer_query(query, images, history).boxes)
        distance = [abs(int(option) - number) for option in plain]
        scores = [1 / (1 + d) for d in distance]
    else:
        scores = list(score_labels(texts, images[0]).probabilities)
    total = sum(scores)
    best = max(range(len(options)), key=lambda n: scores[n])
    return Reply(options[best], scores[best] / total if total else 0.0)
