"""Responses in the format of OpenAI's API, with the extension field `lhrs`."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lhrs.imagery.geo_image import GeoImage
from lhrs.imagery.georeference import feature, reproject
from lhrs.inference.runtime import Generation
from lhrs.schema import Answer

_LONLAT = ("EPSG:4326", "OGC:CRS84")


def usage(reply: Generation) -> dict[str, int]:
    """Return the number of prompt and completion tokens."""
    read, written = reply.prompt_tokens, len(reply.token_texts)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def finish_reason(reply: Generation) -> str:
    """Return `length` for a truncated answer, else `stop`."""
    is_complete = bool(reply.token_texts) and len(reply.probabilities) == len(reply.token_texts)
    return "length" if is_complete else "stop"


def logprobs(reply: Generation, top: int, is_sampled: bool) -> dict[str, Any] | None:
    """Return the log probability of each token; the last is the end token with an empty text.

    The runtimes report only the selected token. Without sampling it is the most likely one.
    """
    if not reply.probabilities:
        return None
    texts = [*reply.token_texts, *[""] * (len(reply.probabilities) - len(reply.token_texts))]
    content = []
    for text, probability in zip(texts, reply.probabilities, strict=True):
        entry = {"token": text, "logprob": math.log(max(probability, 1e-45)), "bytes": list(text.encode())}
        content.append({**entry, "top_logprobs": [entry] if top and not is_sampled else []})
    return {"content": content, "refusal": None}


def lhrs_fields(
    answer: Answer,
    image: GeoImage | None,
    boxes: list[dict[str, Any]],
    crs: str,
    ignored: list[str],
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the field `lhrs` of an answer.

    Args:
        answer: of the model.
        image: the first image, or the part of it that was read.
        boxes: of `answer`, from `whole_boxes`.
        crs: of the GeoJSON.
        ignored: fields of the request that this model does not support.
        warnings: what the user should know about their labels.
    """
    rendering = None
    if image is not None:
        height, width = image.pixels.shape[:2]
        left, top = image.offset
        rendering = {
            "bands": image.rendering.bands,
            "scaling": image.rendering.scaling,
            "chosen_by": image.rendering.chosen_by,
            "window": [left, top, left + image.width, top + image.height],
            "size": [width, height],
            "gsd_m": image.gsd_m,
        }
    located = image is not None and image.georeference is not None
    return {
        "answer": answer.answer,
        "confidence": answer.confidence,
        "out_of_distribution": answer.out_of_distribution,
        "rendering": rendering,
        "boxes": boxes,
        "geojson": geojson(answer, crs) if located else None,
        "ignored": ignored,
        "warnings": list(warnings),
    }


def whole_boxes(answer: Answer, image: GeoImage | None) -> list[dict[str, Any]]:
    """Return an answer's boxes in pixels of the whole file, even if only a part of it was read."""
    left, top = (0, 0) if image is None else image.offset
    return [
        {**box.model_dump(), "xyxy": [v + d for v, d in zip(box.xyxy, (left, top, left, top), strict=True)]}
        for box in answer.boxes
    ]


def geojson(answer: Answer, crs: str) -> dict[str, Any]:
    """Return an answer's boxes as a FeatureCollection, in longitude and latitude (RFC 7946) or in another CRS."""
    features = []
    for box in answer.boxes:
        about = {"label": box.label, "confidence": box.confidence, "model": answer.model}
        ring = np.full((4, 2), np.nan) if box.lonlat is None else np.array(box.lonlat[:-1])
        if crs in _LONLAT:
            features.append(feature(ring, about))
            continue
        moved = reproject(ring, crs)
        shape = {"type": "Polygon", "coordinates": [np.concatenate([moved, moved[:1]]).tolist()]}
        known = bool(np.isfinite(moved).all())
        features.append({"type": "Feature", "geometry": shape if known else None, "properties": about})
    collection: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if crs not in _LONLAT:
        authority, _, number = crs.partition(":")
        collection["crs"] = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{authority}::{number}"}}
    return collection
