"""`lhrs ask`, `caption`, `classify`, `ground` and `count`: one question about any number of images."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lhrs.cli.console import EXIT_USER_ERROR, print_error, print_info
from lhrs.cli.options import GSD, AsJson, Composite, Device, Model, Seed, Sensor, Temperature, with_model_options
from lhrs.errors import ConfigError, DataError
from lhrs.progress import progress_bar

if TYPE_CHECKING:
    from lhrs.inference.assistant import Assistant
    from lhrs.inference.images import RenderingOptions
    from lhrs.inference.options import ModelOptions
    from lhrs.schema import Answer

_REDUCED = 1.5
"""Reduction of an image's side from which on it is printed."""

Images = Annotated[list[Path], typer.Argument(help="Images, GeoTIFFs and folders of them.", metavar="IMAGE...")]


@with_model_options
def ask(
    words: Annotated[list[str], typer.Argument(metavar="IMAGE... QUESTION", help="Images, then the question.")],
    options: Annotated[str | None, typer.Option(help="Answer with exactly one of these: a,b,c.")] = None,
    as_json: AsJson = False,
    model: Model = None,
    device: Device = None,
    sensor: Sensor = None,
    composite: Composite = None,
    gsd: GSD = None,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
    *,
    model_options: "ModelOptions",
) -> None:
    """Ask a question about images."""
    images, question = _split(words, "the question")
    listed = None if options is None else _split_list(options, "--options")
    paths, errors = list_paths(images), Errors()
    assistant = load_assistant(model, device, temperature, seed, sensor, composite, gsd, model_options)
    _print_answers(assistant.ask_all(paths, question, listed, errors), len(paths), as_json)
    errors.exit()


@with_model_options
def caption(
    images: Images,
    as_json: AsJson = False,
    model: Model = None,
    device: Device = None,
    sensor: Sensor = None,
    composite: Composite = None,
    gsd: GSD = None,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
    *,
    model_options: "ModelOptions",
) -> None:
    """Describe images in a sentence."""
    paths, errors = list_paths(images), Errors()
    assistant = load_assistant(model, device, temperature, seed, sensor, composite, gsd, model_options)
    _print_answers(assistant.caption_all(paths, errors), len(paths), as_json)
    errors.exit()


@with_model_options
def classify(
    images: Images,
    labels: Annotated[str | None, typer.Option(help="Answer with exactly one of these: a,b,c.")] = None,
    as_json: AsJson = False,
    model: Model = None,
    device: Device = None,
    sensor: Sensor = None,
    composite: Composite = None,
    gsd: GSD = None,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
    *,
    model_options: "ModelOptions",
) -> None:
    """Name the scene class of images."""
    listed = None if labels is None else _split_list(labels, "--labels")
    paths, errors = list_paths(images), Errors()
    assistant = load_assistant(model, device, temperature, seed, sensor, composite, gsd, model_options)
    answers = assistant.classify_all(paths, listed, errors)  # contradicting labels are refused here
    warn_of_labels(assistant, listed)
    _print_answers(answers, len(paths), as_json)
    errors.exit()


@with_model_options
def count(
    words: Annotated[list[str], typer.Argument(metavar="IMAGE... [TARGET]", help="Images, then what to count.")],
    as_json: AsJson = False,
    model: Model = None,
    device: Device = None,
    sensor: Sensor = None,
    composite: Composite = None,
    gsd: GSD = None,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
    *,
    model_options: "ModelOptions",
) -> None:
    """Count objects, by default buildings."""
    images, target = (words, "buildings") if len(words) == 1 or _is_path(words[-1]) else (words[:-1], words[-1])
    paths, errors = list_paths([Path(image) for image in images]), Errors()
    assistant = load_assistant(model, device, temperature, seed, sensor, composite, gsd, model_options)
    _print_answers(assistant.count_all(paths, target, errors), len(paths), as_json)
    errors.exit()


@with_model_options
def ground(
    words: Annotated[list[str], typer.Argument(metavar='IMAGE... "the ..."', help="Images, then what to find.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write boxes here: .geojson, or .png with boxes drawn.")
    ] = None,
    as_json: AsJson = False,
    model: Model = None,
    device: Device = None,
    sensor: Sensor = None,
    composite: Composite = None,
    gsd: GSD = None,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
    *,
    model_options: "ModelOptions",
) -> None:
    """Find objects and print their boxes, in pixels and in longitude and latitude."""
    images, expression = _split(words, "what to find")
    paths, errors = list_paths(images), Errors()
    if out is not None:
        _check_out(out, paths)
    assistant = load_assistant(model, device, temperature, seed, sensor, composite, gsd, model_options)
    answers = _print_answers(assistant.ground_all(paths, expression, errors), len(paths), as_json)
    if out is not None and answers:
        _write_boxes(out, answers, assistant.rendering)
    errors.exit()


def warn_of_labels(assistant: "Assistant", labels: Sequence[str] | None) -> None:
    """Print what the user should know about their labels on stderr."""
    for warning in assistant.runtime.family.label_warnings(labels or ()):
        print_info(f"warning: {warning}")


def load_assistant(
    model: str | None,
    device: str | None,
    temperature: float,
    seed: int,
    sensor: str | None,
    composite: str | None,
    gsd: float | None,
    model_options: "ModelOptions",
) -> "Assistant":
    """Load a model with the options of a command."""
    from lhrs.inference.images import RenderingOptions
    from lhrs.inference.load import load

    assistant = load(model, device, model_options)
    assistant.temperature, assistant.seed = temperature, seed
    assistant.rendering = RenderingOptions(sensor, composite, gsd, model_options.image_size)
    return assistant


class Errors:
    """Prints images that cannot be read, and remembers that there were some."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, error: DataError) -> None:
        self._count += 1
        print_error(error)

    def exit(self) -> None:
        """End the command with 2 if there was an error."""
        if self._count:
            raise typer.Exit(EXIT_USER_ERROR)


def list_paths(images: list[Path]) -> list[Path]:
    """Return the images of files and folders."""
    from lhrs.imagery.image import list_images

    return list_images(images)


def _print_answers(answers: Iterator["Answer"], total: int, as_json: bool) -> list["Answer"]:
    """Print answers as they come; return them."""
    printed = []
    with progress_bar("asking", total) as bar:
        for answer in answers:
            print(json.dumps(answer.model_dump(), ensure_ascii=False) if as_json else to_text(answer, total > 1),
                  flush=True)  # fmt: skip
            if not as_json:
                print_info(_remark(answer))
            printed.append(answer)
            bar.update()
    return printed


def to_text(answer: "Answer", with_name: bool) -> str:
    """Return an answer with its boxes as lines of text."""
    lines = [f"{answer.image}\t{answer.answer}" if with_name else answer.answer]
    for box in answer.boxes:
        corners = ", ".join(f"{v:.0f}" for v in box.xyxy)
        lines.append(f"  {box.label} [{corners}] {box.confidence or 0:.2f}")
    return "\n".join(lines)


def _remark(answer: "Answer") -> str:
    rendering = f"bands {','.join(map(str, answer.rendering.bands))}, {answer.rendering.scaling}"
    confidence = "" if answer.confidence is None else f"; confidence {answer.confidence:.2f}"
    text = f"  {Path(answer.image).name}: {rendering}{confidence}; {answer.model}"
    size, image_size = answer.rendering.size, answer.rendering.image_size
    if size is not None and image_size is not None and image_size[0] > _REDUCED * size[0]:
        seen, whole = (f"{width} x {height}" for width, height in (size, image_size))
        text += f"\n  The model saw {whole} pixels reduced to {seen}. `lhrs scene` asks about each window at full size."
    if answer.out_of_distribution:
        text += "\n  This image is unlike everything the model was trained on: do not rely on the answer."
    return text


def _check_out(out: Path, paths: list[Path]) -> None:
    """Refuse what could not be written before a question is asked."""
    if out.suffix.lower() not in {".geojson", ".json", ".png"}:
        raise ConfigError(f"--out {out}: the name must end in .geojson or .png.")
    if not out.resolve().parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}.")
    if out.resolve() in {path.resolve() for path in paths}:
        raise ConfigError(f"--out {out} is one of the images; write to another name.")
    if out.suffix.lower() == ".png" and len(paths) > 1:
        raise ConfigError(f"--out {out}: a PNG shows one image, not {len(paths)}; use .geojson.")


def _write_boxes(out: Path, answers: list["Answer"], rendering: "RenderingOptions") -> None:
    if out.suffix.lower() == ".png":
        _write_drawing(out, answers[0], rendering)
        return
    import numpy as np

    from lhrs.imagery.georeference import feature, write_geojson

    features = []
    for answer in answers:
        for box in answer.boxes:
            if box.lonlat is None:
                raise ConfigError(f"{answer.image} is not georeferenced, so its boxes are not on the map; use .png.")
            about = {"label": box.label, "confidence": box.confidence, "image": answer.image, "model": answer.model}
            features.append(feature(np.array(box.lonlat[:-1]), about))
    write_geojson(out, features)
    print_info(f"{out}: {len(features)} box{'' if len(features) == 1 else 'es'}")


def _write_drawing(out: Path, answer: "Answer", rendering: "RenderingOptions") -> None:
    import io

    import numpy as np

    from lhrs.atomic_io import write_atomic
    from lhrs.imagery.draw_boxes import draw_boxes
    from lhrs.inference.images import open_input

    _, image = open_input(answer.image, rendering)
    height, width = image.pixels.shape[:2]
    scale = np.array([width / image.width, height / image.height] * 2)
    boxes = np.array([b.xyxy for b in answer.boxes]).reshape(-1, 4) * scale
    data = io.BytesIO()
    draw_boxes(image.pixels, boxes, [f"{b.label} {b.confidence or 0:.2f}" for b in answer.boxes]).save(data, "PNG")
    write_atomic(out, data.getvalue())
    print_info(f"{out}: {len(boxes)} box{'' if len(boxes) == 1 else 'es'}")


def _split(words: list[str], what: str) -> tuple[list[Path], str]:
    """Separate the images from the text that ends the command."""
    if len(words) < 2 or _is_path(words[-1]):
        raise ConfigError(f'{what} is missing: give the images first, then {what} in quotes, "...".')
    return [Path(w) for w in words[:-1]], words[-1]


def _is_path(word: str) -> bool:
    from lhrs.imagery.image import IMAGE_SUFFIXES

    return Path(word).suffix.lower() in IMAGE_SUFFIXES or os.path.exists(word)  # also False for what no path can be


def _split_list(text: str, flag: str) -> list[str]:
    parts = [p.strip() for p in text.split(",")]
    if not all(parts):
        raise ConfigError(f"{flag} {text!r} has an empty entry.")
    return parts
