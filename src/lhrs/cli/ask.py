"""`lhrs ask`, `caption`, `classify`, `ground` and `count`: one question about any number of images."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lhrs.cli.terminal import FAILED, complain, note, progress
from lhrs.errors import ConfigError, DataError

if TYPE_CHECKING:
    from lhrs.inference.assistant import Assistant
    from lhrs.schema import Answer

Images = Annotated[list[Path], typer.Argument(help="Pictures, GeoTIFFs and folders of them.", metavar="IMAGE...")]
Words = Annotated[list[str], typer.Argument(metavar="IMAGE... QUESTION", help="Images and folders, then the question.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
Model = Annotated[str | None, typer.Option(help="Folder, hub id or URL of a server; lhrs-nano by default.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; by default the GPU where there is one.")]
Temperature = Annotated[float, typer.Option(min=0.0, help="0: the likeliest answer. Above: answers are drawn.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of drawn answers.")]
Asking = Callable[["Assistant", list[Path], Callable[[DataError], None]], Iterator["Answer"]]


def ask(
    words: Words,
    options: Annotated[str | None, typer.Option(help="Answer with exactly one of these: a,b,c.")] = None,
    as_json: AsJson = False,
    model: Model = None,
    device: Device = None,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
) -> None:
    """Ask a question about images."""
    images, question = _split(words, "the question")
    listed = None if options is None else _list(options, "--options")
    _answer(
        images,
        lambda a, paths, failed: a.ask_all(paths, question, listed, failed),
        _load(model, device, temperature, seed),
        as_json,
    )


def caption(
    images: Images,
    as_json: AsJson = False,
    model: Model = None,
    device: Device = None,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
) -> None:
    """Describe images in a sentence."""
    asking: Asking = lambda a, paths, failed: a.caption_all(paths, failed)  # noqa: E731
    _answer(images, asking, _load(model, device, temperature, seed), as_json)


def classify(
    images: Images,
    labels: Annotated[str | None, typer.Option(help="Answer with exactly one of these, as given: a,b,c.")] = None,
    as_json: AsJson = False,
    model: Model = None,
    device: Device = None,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
) -> None:
    """Name the class of images."""
    listed = None if labels is None else _list(labels, "--labels")
    asking: Asking = lambda a, paths, failed: a.classify_all(paths, listed, failed)  # noqa: E731
    _answer(images, asking, _load(model, device, temperature, seed), as_json)


def count(
    words: Annotated[list[str], typer.Argument(metavar="IMAGE... [THING]", help="Images, then what to count.")],
    as_json: AsJson = False,
    model: Model = None,
    device: Device = None,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
) -> None:
    """Count things; buildings if nothing else is said."""
    images, thing = (words, "buildings") if len(words) == 1 or _is_path(words[-1]) else (words[:-1], words[-1])
    asking: Asking = lambda a, paths, failed: a.count_all(paths, thing, failed)  # noqa: E731
    _answer([Path(i) for i in images], asking, _load(model, device, temperature, seed), as_json)


def ground(
    words: Annotated[list[str], typer.Argument(metavar='IMAGE... "the ..."', help="Images, then what to find.")],
    out: Annotated[Path | None, typer.Option(help="Write boxes here: .geojson, or .png with boxes drawn.")] = None,
    as_json: AsJson = False,
    model: Model = None,
    device: Device = None,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
) -> None:
    """Find things and give their boxes, in pixels and on the map."""
    images, expression = _split(words, "what to find")
    if out is not None:
        _check_out(out, images)
    asking: Asking = lambda a, paths, failed: a.ground_all(paths, expression, failed)  # noqa: E731
    write = None if out is None else lambda answers: _write_boxes(out, answers)
    _answer(images, asking, _load(model, device, temperature, seed), as_json, write)


def _load(model: str | None, device: str | None, temperature: float, seed: int) -> Callable[[], "Assistant"]:
    def load() -> "Assistant":
        from lhrs.inference.load import load as load_model

        assistant = load_model(model, device)
        assistant.temperature, assistant.seed = temperature, seed
        return assistant

    return load


def _answer(
    images: list[Path],
    asking: Asking,
    load: Callable[[], "Assistant"],
    as_json: bool,
    write: Callable[[list["Answer"]], None] | None = None,
) -> None:
    """Ask, print answers as they come, and exit with 2 if an image could not be read."""
    from lhrs.imagery.open import list_images

    paths = list_images(images)
    failures = 0

    def failed(error: DataError) -> None:
        nonlocal failures
        failures += 1
        complain(error)

    answers: list[Answer] = []
    with progress("asking", len(paths)) as advance:
        for answer in asking(load(), paths, failed):
            print(_json_line(answer) if as_json else _text(answer, len(paths) > 1), flush=True)
            if not as_json:
                note(_remark(answer))
            if write is not None:
                answers.append(answer)
            advance()
    if write is not None and answers:
        write(answers)
    if failures:
        raise typer.Exit(FAILED)


def _json_line(answer: "Answer") -> str:
    return json.dumps(answer.model_dump(), ensure_ascii=False)


def _text(answer: "Answer", many: bool) -> str:
    lines = [f"{answer.image}\t{answer.answer}" if many else answer.answer]
    for box in answer.boxes:
        corners = ", ".join(f"{v:.0f}" for v in box.xyxy)
        lines.append(f"  {box.label} [{corners}] {box.confidence or 0:.2f}")
    return "\n".join(lines)


def _remark(answer: "Answer") -> str:
    view = f"bands {','.join(map(str, answer.rendering.bands))}, {answer.rendering.scaling}"
    confidence = "" if answer.confidence is None else f"; confidence {answer.confidence:.2f}"
    text = f"  {Path(answer.image).name}: {view}{confidence}; {answer.model}"
    if answer.out_of_distribution:
        text += "\n  This image is unlike everything the model was trained on: do not rely on the answer."
    return text


def _check_out(out: Path, images: list[Path]) -> None:
    """Refuse what could not be written before a question is asked."""
    from lhrs.imagery.open import list_images

    paths = list_images(images)
    if out.suffix.lower() not in {".geojson", ".json", ".png"}:
        raise ConfigError(f"--out {out}: the name must end in .geojson or .png.")
    if not out.resolve().parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}.")
    if out.resolve() in {path.resolve() for path in paths}:
        raise ConfigError(f"--out {out} is one of the images; write to another name.")
    if out.suffix.lower() == ".png" and len(paths) > 1:
        raise ConfigError(f"--out {out}: one picture shows one image, and {len(paths)} were given; use .geojson.")


def _write_boxes(out: Path, answers: list["Answer"]) -> None:
    if out.suffix.lower() == ".png":
        _write_picture(out, answers)
        return
    import numpy as np

    from lhrs.imagery.georeference import feature, write_geojson

    features = []
    for answer in answers:
        for box in answer.boxes:
            if box.lonlat is None:
                raise ConfigError(
                    f"{answer.image} is not georeferenced, so its boxes have no place on the map; use .png."
                )
            about = {"label": box.label, "confidence": box.confidence, "image": answer.image, "model": answer.model}
            features.append(feature(np.array(box.lonlat[:-1]), about))
    write_geojson(out, features)
    note(f"{out}: {len(features)} box{'' if len(features) == 1 else 'es'}")


def _write_picture(out: Path, answers: list["Answer"]) -> None:
    import io

    import numpy as np

    from lhrs.files import write_file
    from lhrs.imagery.draw import draw_boxes
    from lhrs.imagery.open import open_image

    image = open_image(answers[0].image)
    height, width = image.pixels.shape[:2]
    scale = np.array([width / image.width, height / image.height] * 2)
    boxes = np.array([b.xyxy for b in answers[0].boxes]).reshape(-1, 4) * scale
    data = io.BytesIO()
    draw_boxes(image.pixels, boxes, [f"{b.label} {b.confidence or 0:.2f}" for b in answers[0].boxes]).save(data, "PNG")
    write_file(out, data.getvalue())
    note(f"{out}: {len(boxes)} box{'' if len(boxes) == 1 else 'es'}")


def _split(words: list[str], what: str) -> tuple[list[Path], str]:
    """Separate the images from the text that ends the command."""
    if len(words) < 2 or _is_path(words[-1]):
        raise ConfigError(f'{what} is missing: give the images first, then {what} in quotes, "...".')
    return [Path(w) for w in words[:-1]], words[-1]


def _is_path(word: str) -> bool:
    from lhrs.imagery.open import IMAGE_SUFFIXES

    return Path(word).suffix.lower() in IMAGE_SUFFIXES or os.path.exists(word)  # says no to what no path can be


def _list(text: str, flag: str) -> list[str]:
    parts = [p.strip() for p in text.split(",")]
    if not all(parts):
        raise ConfigError(f"{flag} {text!r} has an empty entry.")
    return parts
