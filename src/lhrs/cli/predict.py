"""`lhrs predict`: a finetuned model on images, whole scenes and pairs of dates."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from lhrs.cli.console import note, progress_bar

_CLASSES = (".csv", ".geojson", ".tif")
_OBJECTS = (".geojson", ".jsonl", "")


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a model: OUT/model of `lhrs finetune`.")],
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES...", help="Images or folders of them; for change BEFORE AFTER, two images or two folders."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            help="Classes of scenes: .csv or .geojson; with --window also .tif. Pixels: a .tif, or a folder for "
            "several. Objects: .geojson on the map, .jsonl in pixels, or a folder for DOTA's files.",
        ),
    ],
    window: Annotated[
        int | None,
        typer.Option(
            "--window",
            min=1,
            help="Classes of scenes: of each window of so many pixels a side, not of each image as a whole.",
        ),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option("--min-score", help="Objects: leave out those with a lower score, 0-1.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, ...; a GPU if there is one.")] = None,
) -> None:
    """Write what a model of `lhrs finetune` says about images of any size.

    Classes of pixels and change become a GeoTIFF (COG) with the image's georeference, and beside it a GeoJSON of
    outlines where the image is georeferenced; those that an interrupted run of the same model has written are kept.
    Objects become polygons with class and score; large scenes are read in tiles.
    """
    from lhrs.downstream.card import read_card
    from lhrs.errors import ConfigError, DataError
    from lhrs.files import claim_folder
    from lhrs.imagery.open import list_images

    task = read_card(model).task
    if min_score is not None and task != "detect":
        raise ConfigError(f"--min-score is for objects; {model} is a model of kind {task!r}.")
    if window is not None and task != "classify":
        raise ConfigError(f"--window is for classes of scenes; {model} is a model of kind {task!r}.")
    if task == "classify":
        kinds = _CLASSES if window else _CLASSES[:2]
        if out.suffix.lower() not in kinds:
            raise ConfigError(f"--out {out}: classes of scenes are written as {' or '.join(kinds)}.")
        files = list_images(images)
        if out.suffix.lower() != ".tif":
            _classify(model, files, out, window, device)
            return
        if len(files) > 1:
            raise ConfigError(f"--out {out} is one file, but there are {len(files)} images; write a .geojson.")
        _masks(model, [(files[0],)], [out], window, device)
        return
    if task == "detect":
        if out.suffix.lower() not in _OBJECTS:
            raise ConfigError(f"--out {out}: objects are written as .geojson, as .jsonl, or into a folder.")
        if not out.suffix:
            claim_folder(out)  # what somebody has there is not ours to replace
        _objects(model, list_images(images), out, min_score or 0.0, device)
        return
    if task == "change":
        if len(images) != 2:
            raise ConfigError(f"change needs BEFORE and AFTER, two images or two folders, not {len(images)} paths.")
        before, after = (list_images([path]) for path in images)
        if len(before) == len(after) == 1:
            pairs: list[tuple[Path, ...]] = [(before[0], after[0])]
        else:
            other = {path.name: path for path in after}
            lone = next((path for path in before if path.name not in other), None)
            if lone is not None:
                raise DataError(f"{lone} has no image of its name in {images[1]}.")
            pairs = [(path, other[path.name]) for path in before]
    else:
        pairs = [(path,) for path in list_images(images)]
    is_file = out.suffix.lower() in (".tif", ".tiff")
    if out.suffix and not is_file and not out.is_dir():
        raise ConfigError(f"--out {out}: masks are written as .tif, or into a folder.")
    if is_file and len(pairs) > 1:
        raise ConfigError(f"--out {out} is one file, but there are {len(pairs)} images; name a folder.")
    targets = [out] if is_file else [out / f"{pair[0].stem}.tif" for pair in pairs]
    if twice := sorted(target for target, count in Counter(targets).items() if count > 1):
        raise ConfigError(f"two images would be written to {twice[0]}; give them other names.")
    _masks(model, pairs, targets, None, device)


def _classify(model: Path, files: list[Path], out: Path, window: int | None, device: str | None) -> None:
    from lhrs.downstream import load_predictor
    from lhrs.downstream.write import Classified, write_classes_csv, write_classes_geojson
    from lhrs.errors import DataError
    from lhrs.imagery.windows import cut

    predictor = load_predictor(model, device)
    rows: list[Classified] = []
    if window is None:
        with progress_bar("images", len(files)) as bar:
            for file, found in zip(files, predictor.classify(files), strict=True):
                rows.append((file, None, found))
                bar.update()
    else:
        shapes = [predictor.stacks(file)[0].shape for file in files]
        with progress_bar("windows", sum(len(cut(wide, high, window)) for high, wide in shapes)) as bar:
            for file in files:
                for one, seen in predictor.classify_windows(predictor.stacks(file)[0], window):
                    if seen is not None:
                        rows.append((file, one.core, seen))
                    bar.update()
        if not rows:
            raise DataError(f"{files[0]} has no data in any window.")
    if out.suffix.lower() == ".csv":
        write_classes_csv(rows, predictor.card.classes, out)
    else:
        write_classes_geojson(rows, out)
    print(out)


def _objects(model: Path, files: list[Path], out: Path, min_score: float, device: str | None) -> None:
    from lhrs.downstream import load_predictor
    from lhrs.downstream.detect.dota import tile_corners
    from lhrs.downstream.write import (
        require_dota_names,
        require_georeference,
        write_objects_dota,
        write_objects_geojson,
        write_objects_jsonl,
    )

    if out.suffix.lower() == ".geojson":
        for file in files:
            require_georeference(file)
    elif not out.suffix:
        require_dota_names(files)
    predictor = load_predictor(model, device)
    shapes, tile, gap = [predictor.stacks(file)[0].shape for file in files], predictor.card.tile, predictor.card.gap
    with progress_bar("tiles", sum(len(tile_corners(wide, high, tile, gap)) for high, wide in shapes)) as bar:
        rows = (
            (file, [one for one in predictor.objects(predictor.stacks(file)[0], bar.update) if one.score >= min_score])
            for file in files
        )
        if out.suffix.lower() == ".geojson":
            write_objects_geojson(rows, out)
        elif out.suffix:
            write_objects_jsonl(rows, out)
        else:
            write_objects_dota(rows, predictor.card.classes, out)
    print(out)


def _masks(
    model: Path, pairs: list[tuple[Path, ...]], targets: list[Path], side: int | None, device: str | None
) -> None:
    from lhrs.downstream import load_predictor
    from lhrs.downstream.write import mask_is_current, write_mask, write_outlines
    from lhrs.errors import ConfigError
    from lhrs.inference.load import model_hash

    given = {path.resolve() for pair in pairs for path in pair}
    if own := next((target for target in targets if target.resolve() in given), None):
        raise ConfigError(f"{own} is one of the images: name another --out.")
    predictor, key = load_predictor(model, device), model_hash(str(model), predict.__name__)
    num_strips = [predictor.num_strips(predictor.stacks(*pair), side) for pair in pairs]
    with progress_bar("rows of windows", sum(num_strips)) as bar:
        for pair, target, count in zip(pairs, targets, num_strips, strict=True):
            stacks, outlines = predictor.stacks(*pair), target.with_suffix(".geojson")
            provenance = _provenance(key, pair, side)
            where = stacks[0].georeference
            if mask_is_current(target, provenance):
                bar.update(count)
            else:
                if where is not None:
                    outlines.unlink(missing_ok=True)  # of another mask
                write_mask(predictor, stacks, target, side, bar.update, provenance)
            print(target)
            if where is None:
                note(f"{pair[0]} is not georeferenced: no outlines.")
                continue
            if not outlines.exists():
                write_outlines(target, where, predictor.card.classes, outlines, int(predictor.card.task == "change"))
            print(outlines)


def _provenance(model: str, images: tuple[Path, ...], side: int | None) -> str:
    """Return the fingerprint of a mask: of the model, the window size, and all files of the images."""
    from lhrs import fingerprint
    from lhrs.imagery.reader import open_source

    files = [path for image in images for path in open_source(image).list_files()]  # with the sources of a VRT
    return fingerprint.of_config([model, side, fingerprint.of_files(files)])
