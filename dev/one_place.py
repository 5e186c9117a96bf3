"""Prints where src/lhrs does each mechanism that has one place, and fails if there is another.

    python dev/one_place.py            # the counts, and what is not at its place
    python dev/one_place.py --all      # also what is

The forms are found in the syntax tree, through the names that a file imports: `rasterio.open(path)` with any read mode,
`Image.open`, `PIL.Image.open`, `from PIL.Image import open`, also where they are passed on without being called.
Writers are not looked at. Exit code 1 if there are more other places than `REMAINING` allows.
"""

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

SRC = Path(__file__).parents[1] / "src/lhrs"

EXCEPTIONS = {
    ("images opened", "data/rendering_augment.py"): "decodes what it just encoded, to train on compressed images",
    ("fingerprints taken", "serving/middleware.py"): "hashes of secret keys, compared in constant time",
    ("boxes overlapped", "curate/leakage.py"): "fractions of footprints on the ground, which are polygons",
    ("boxes overlapped", "metrics/legacy.py"): "published scorers as they are, with their defects",
    ("boxes overlapped", "downstream/detect/rpn.py"): "torchvision's, on tensors of the accelerator",
    ("boxes overlapped", "downstream/detect/tiling.py"): "torchvision's NMS, passed to the one merge",
    ("boxes overlapped", "imagery/merge_detections.py"): "the common length of two edges along a seam, no area",
    ("progress shown", "training/callbacks.py"): "the bar of a run that may resume, with the last loss as its text",
    ("weights loaded", "data/feature_cache.py"): "reads cached features, which are data",
    ("weights loaded", "models/importers/safe_unpickle.py"): "the one reader of torch files, which are foreign",
    ("weights loaded", "training/vlm.py"): "the state of a sharded or quantized model in memory, which has other names",
}
"""Files that do a mechanism elsewhere, by mechanism and file (patterns), with the reason."""

REMAINING: dict[str, int] = {}
"""How many other places are still there: these numbers only go down."""


Node = ast.expr | ast.stmt


@dataclass(frozen=True)
class Found:
    """A form of a mechanism in a file."""

    mechanism: str
    file: str
    line: int
    code: str


def names_of(tree: ast.AST) -> dict[str, str]:
    """Return the dotted name that each imported name of a file stands for."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def dotted(node: ast.AST, names: dict[str, str]) -> str:
    """Return the full name of an expression such as `Image.open`, or "" if it does not begin with an import."""
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute) and (owner := dotted(node.value, names)):
        return f"{owner}.{node.attr}"
    return ""


def called(node: ast.AST) -> str:
    """Return the last part of the name of what a call calls, or ""."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def references(tree: ast.AST, names: dict[str, str], patterns: tuple[str, ...]) -> Iterator[Node]:
    """Yield the expressions whose full name fits a pattern, the longest of each."""
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and id(node) not in inner:
            name = dotted(node, names)
            if any(fnmatch(name, pattern) for pattern in patterns):
                yield node


RASTERS = (
    *("rasterio.open", "rasterio.io.DatasetReader", "rasterio.MemoryFile", "rasterio.io.MemoryFile"),
    *("rioxarray.open_rasterio", "osgeo.gdal.Open*", "netCDF4.Dataset", "tifffile.*"),
)


def rasters_opened(tree: ast.AST, names: dict[str, str]) -> Iterator[Node]:
    """Files or bytes opened by GDAL to read pixels; a mode that writes and an empty MemoryFile do not count."""
    writers = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = dotted(node.func, names)
            mode = next((k.value for k in node.keywords if k.arg == "mode"), None)
            mode = node.args[1] if mode is None and len(node.args) > 1 else mode
            writes = isinstance(mode, ast.Constant) and mode.value != "r"
            if (name == "rasterio.open" and writes) or (name.endswith(".MemoryFile") and not node.args):
                writers.add(id(node.func))
    yield from (node for node in references(tree, names, RASTERS) if id(node) not in writers)


PICTURES = (
    *("PIL.Image.open", "PIL.ImageFile.Parser", "cv2.imread", "cv2.imdecode", "imageio*.imread", "skimage.io.imread"),
    *("matplotlib.*.imread", "torchvision.io.read_image", "torchvision.io.decode_*"),
)


def images_opened(tree: ast.AST, names: dict[str, str]) -> Iterator[Node]:
    """Files or bytes opened by an image library to read pixels."""
    yield from references(tree, names, PICTURES)


def is_difference(node: ast.AST) -> bool:
    """Say whether an expression is a subtraction of two things that are no literals."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Sub):
        return False
    return not isinstance(node.right, ast.Constant) and not isinstance(node.left, ast.Constant)


_SIDES = {"height", "width", "high", "wide", "h", "w", "rows", "columns", "cols", "length"}


def windows_cut(tree: ast.AST, names: dict[str, str]) -> Iterator[Node]:
    """Where windows begin along a side, in the forms that the arithmetic of it takes.

    `range(0, height, size)` and `range(0, length - size, step)`; `linspace(0, length - size, n)`;
    `ceil((length - overlap) / (size - overlap))`; in a comprehension `min(n * step, length - size)` and
    `length * n // parts`; numpy's sliding windows and torchgeo's sampler.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name, args = called(node), node.args
            steps = (
                name in ("range", "arange") and len(args) == 3 and not isinstance(args[2], ast.Constant | ast.UnaryOp)
            )
            spreads = name == "linspace" and len(args) > 1 and is_difference(args[1])
            counts = name == "ceil" and args and any(_divides_length(inner) for inner in ast.walk(args[0]))
            slides = name in ("sliding_window_view", "GridGeoSampler")
            if (steps and _is_along_side(args[1])) or spreads or counts or slides:
                yield node
        elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp):
            yield from (inner for inner in ast.walk(node.elt) if isinstance(inner, ast.expr) and _is_start(inner))


def _is_along_side(stop: ast.AST) -> bool:
    """Say whether a range ends with a side of an image, or with a difference."""
    parts = list(ast.walk(stop))
    return any(getattr(part, "id", getattr(part, "attr", "")) in _SIDES or is_difference(part) for part in parts)


def _divides_length(node: ast.AST) -> bool:
    """Say whether an expression divides a difference, or by one."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Div):
        return False
    return is_difference(node.left) or is_difference(node.right)


def _is_start(node: ast.AST) -> bool:
    """Say whether an expression is `min(n * step, length - size)` or `length * n // parts`."""
    if called(node) == "min" and isinstance(node, ast.Call):
        kinds = [type(arg.op) for arg in node.args if isinstance(arg, ast.BinOp)]
        return ast.Sub in kinds and ast.Mult in kinds
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv):
        product = isinstance(node.left, ast.BinOp) and isinstance(node.left.op, ast.Mult)
        return product and isinstance(node.right, ast.Name) and not any(called(n) == "len" for n in ast.walk(node))
    return False


OVERLAPS = ("torchvision.ops.*iou*", "torchvision.ops.*nms*", "torchvision.ops.boxes.*", "supervision.*")
_SMALLER, _LARGER = frozenset({"min", "minimum", "fmin"}), frozenset({"max", "maximum", "fmax"})


def boxes_overlapped(tree: ast.AST, names: dict[str, str]) -> Iterator[Node]:
    """`min(ends) - max(begins)`, areas of intersections of shapes, and torchvision's overlaps."""
    yield from references(tree, names, OVERLAPS)
    assigned = {_SMALLER: set(), _LARGER: set()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for kind, targets in assigned.items():
                if called(node.value) in kind:
                    targets.update(target.id for target in node.targets if isinstance(target, ast.Name))

    def is_kind(node: ast.AST, kind: frozenset[str]) -> bool:
        return called(node) in kind or getattr(node, "id", "") in assigned[kind]

    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
            if is_kind(node.left, _SMALLER) and is_kind(node.right, _LARGER):
                yield node
        elif isinstance(node, ast.Call) and called(node) == "area" and node.args:
            if called(node.args[0]) == "intersection":
                yield node
        elif isinstance(node, ast.Attribute) and node.attr == "area" and called(node.value) == "intersection":
            yield node


def progress_shown(tree: ast.AST, names: dict[str, str]) -> Iterator[Node]:
    """Bars of rich, tqdm or click, and functions that give functions to count with."""
    yield from references(tree, names, ("rich.progress.*", "tqdm.*", "typer.progressbar", "click.progressbar"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "Callable":
            result = node.slice.elts[-1] if isinstance(node.slice, ast.Tuple) else None
            if isinstance(result, ast.Subscript) and ast.unparse(result) == "Callable[[], None]":
                yield node


def fingerprints_taken(tree: ast.AST, names: dict[str, str]) -> Iterator[Node]:
    """Hashes, and times of change of files."""
    yield from references(tree, names, ("hashlib.*", "zlib.crc32", "zlib.adler32", "xxhash.*", "os.path.getmtime"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("st_mtime", "st_mtime_ns"):
            yield node


WEIGHTS = ("torch.load", "torch.jit.load", "safetensors.*load_file", "safetensors.*safe_open")


def weights_loaded(tree: ast.AST, names: dict[str, str]) -> Iterator[Node]:
    """Files of tensors read, and tensors put into a module."""
    yield from references(tree, names, WEIGHTS)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "load_state_dict":
            yield node


Form = Callable[[ast.AST, dict[str, str]], Iterator[Node]]
MECHANISMS: dict[str, tuple[Form, tuple[str, ...]]] = {
    "rasters opened": (rasters_opened, ("imagery/gdal_reader.py",)),
    "images opened": (images_opened, ("imagery/pillow_reader.py",)),
    "windows cut": (windows_cut, ("imagery/windows.py",)),
    "boxes overlapped": (boxes_overlapped, ("boxes.py", "downstream/detect/rotated*.py")),
    "progress shown": (progress_shown, ("progress.py",)),
    "fingerprints taken": (fingerprints_taken, ("fingerprint.py",)),
    "weights loaded": (weights_loaded, ("models/state_dict.py",)),
}
"""What finds the forms of a mechanism, and its one place: for boxes one in numpy and one in torch."""


def find(text: str, file: str) -> list[Found]:
    """Return the forms of all mechanisms in a file."""
    tree, lines = ast.parse(text), text.splitlines()
    names = names_of(tree)
    found = {
        Found(mechanism, file, node.lineno, lines[node.lineno - 1].strip())
        for mechanism, (form, _) in MECHANISMS.items()
        for node in form(tree, names)
    }
    return sorted(found, key=lambda one: (one.mechanism, one.file, one.line))


def is_at_its_place(one: Found) -> bool:
    """Say whether a form stands where it belongs."""
    return any(fnmatch(one.file, place) for place in MECHANISMS[one.mechanism][1])


def exception_of(one: Found) -> tuple[str, str] | None:
    """Return the key in `EXCEPTIONS` of a form that may stand elsewhere."""
    keys = (key for key in EXCEPTIONS if fnmatch(one.mechanism, key[0]) and fnmatch(one.file, key[1]))
    return next(keys, None)


def elsewhere(found: list[Found]) -> list[Found]:
    """Return the forms that are neither at their place nor an exception."""
    return [one for one in found if not is_at_its_place(one) and exception_of(one) is None]


def find_all() -> list[Found]:
    """Return the forms in all of src/lhrs."""
    files = sorted(SRC.rglob("*.py"))
    return [one for file in files for one in find(file.read_text(), file.relative_to(SRC).as_posix())]


def main() -> int:
    """Print the places."""
    found, too_many = find_all(), []
    others = elsewhere(found)
    for mechanism, (_, places) in MECHANISMS.items():
        here = [one for one in found if one.mechanism == mechanism]
        outside = [one for one in others if one.mechanism == mechanism]
        allowed = REMAINING.get(mechanism, 0)
        where = [place for place in places if any(fnmatch(one.file, place) for one in here)]
        print(f"\n{mechanism}: {' and '.join(where) or 'not yet at ' + places[0]}; {len(outside)} other places", end="")
        print(f" (allowed: {allowed})" if allowed else "")
        for one in here if "--all" in sys.argv else outside:
            print(f"  {one.file}:{one.line}: {one.code}")
        for key in sorted({key for one in here if not is_at_its_place(one) and (key := exception_of(one))}):
            print(f"  exception {key[1]}: {EXCEPTIONS[key]}")
        if len(outside) > allowed:
            too_many.append(f"{mechanism}: {len(outside)} other places, {allowed} allowed: use {places[0]}")
    print("\n" + ("\n".join(too_many) or "No mechanism has a new place."))
    return 1 if too_many else 0


if __name__ == "__main__":
    sys.exit(main())
