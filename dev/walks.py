"""Checks the five walks of docs/architecture.md against real runs of the five commands, at tiny size.

    python dev/walks.py                # all five
    python dev/walks.py ask pretrain   # some of them
    python dev/walks.py --trace ask    # also every entry, in order

How entries are counted. A file is entered when a call reaches it while none of its own functions is running: its own
helpers, and callbacks into it, stay inside. All calls from one function into one file are one entry, because a loop
over windows, or a function that calls the hooks of an object in turn, is one stretch of the path. Consecutive entries
into one file are one entry; files that the walk does not list are below its level and do not interrupt it. Calls made
while a module is being imported do not count, nor do `__init__.py` files and the base modules, which everybody uses
(`BASE`). So a file that is entered more than twice is one that the work leaves and comes back to.

A listed file without any function, such as a benchmark that is a class with attributes only, counts as entered when it
is loaded; so does a base module. Beside each file stands the rank of its first entry: the list should follow it.

Exit code 1 if a listed file is never entered, or is entered more than twice. Files that are entered but not listed are
printed with the number of their entries.
"""

import argparse
import ast
import os
import re
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from types import CodeType, FrameType

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src/lhrs"
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]
os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")

BASE = {
    *("errors", "files", "atomic_io", "registry", "config", "schema", "boxes", "blocks", "block_executor"),
    *(
        "dropped",
        "fingerprint",
        "jobs",
        "progress",
        "cli/terminal",
        "cli/console",
        "imagery/quiet",
        "imagery/warning_filter",
    ),
}
"""Files that may be entered any number of times; a listed one must be entered."""
IS_FUNCTION = 0x1
"""The flag CO_OPTIMIZED of a code object: a function's, neither a module's nor a class body's."""


class Tracer:
    """Records the first call of every function of lhrs that enters a file, and of each caller the first into a file."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str]] = []  # file, function
        self._seen: set[CodeType] = set()
        self._arrows: set[tuple[CodeType | None, str]] = set()
        self._files: dict[str, str | None] = {}

    def _file(self, frame: FrameType) -> str | None:
        """Return a frame's file below src/lhrs, or None."""
        name = frame.f_code.co_filename
        if name not in self._files:
            path = Path(name)
            self._files[name] = path.relative_to(SRC).as_posix() if path.is_relative_to(SRC) else None
        return self._files[name]

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        """Be the profile function of a thread."""
        code = frame.f_code
        if event != "call" or code in self._seen or not (file := self._file(frame)):
            return
        if not code.co_flags & IS_FUNCTION or code.co_name in ("<genexpr>", "<listcomp>", "<dictcomp>", "<setcomp>"):
            return
        is_inside, caller, outer = False, None, frame.f_back
        while outer is not None:
            if other := self._file(outer):
                caller = caller or outer.f_code
                if not outer.f_code.co_flags & IS_FUNCTION:
                    return  # while a module is imported
                is_inside = is_inside or other == file
            outer = outer.f_back
        self._seen.add(code)
        if not is_inside and not is_base(file) and (caller, file) not in self._arrows:
            self._arrows.add((caller, file))
            self.entries.append((file, code.co_qualname))

    def run(self, work: Callable[[], object]) -> None:
        """Do the work under the tracer, in every thread."""
        threading.setprofile(self)
        sys.setprofile(self)
        try:
            work()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]


def is_base(file: str) -> bool:
    """Say whether a file's entries are left out of the count."""
    return file.removesuffix(".py") in BASE or file.endswith("__init__.py")


def read_walks(text: str) -> dict[str, list[str]]:
    """Return the files of each walk of docs/architecture.md, by the name of its command."""
    section = text.partition("## Five walks")[2].partition("\n## ")[0]
    walks: dict[str, list[str]] = {}
    command = ""
    for line in section.splitlines():
        if found := re.search(r"`lhrs (\w+)", line):
            command = found[1]
        elif found := re.match(r"\d+\. `(.+)`", line):
            walks.setdefault(command, []).append(found[1])
    return walks


def lhrs(*words: object) -> None:
    """Run a command in this process."""
    from lhrs.cli import app

    sys.argv = ["lhrs", *map(str, words)]
    app(list(map(str, words)), prog_name="lhrs", standalone_mode=False)


def prepare_ask(folder: Path) -> Callable[[], object]:
    """A question about the example image, answered by one of the options."""
    return lambda: lhrs("ask", ROOT / "examples/river.tif", "Which is it?", "--options", "forest,river,city")


def prepare_align(folder: Path) -> Callable[[], object]:
    """A map of a few houses and woods, and a scene over it."""
    from tests.align.world import World, write_scene

    world = World()
    for n in range(12):
        world.box(-90 + 15 * n, 10 * (n % 5) - 60, 12, 12, building="house")
    world.box(-60, -60, 80, 70, landuse="forest")
    world.way([(-100, 0), (100, 10)], highway="residential")
    osm = world.write(folder / "town.osm.pbf", "2024-05-01T00:00:00Z")
    scene = write_scene(folder / "scene.tif", world, 128, 2.0)
    words = ("--size", 64, "--date", "2024-05-31", "--license", "CC-BY-4.0", "--attribution", "Somebody")
    return lambda: lhrs("align", "build", "--osm", osm, "--imagery", scene, "--out", folder / "captions", *words)


def prepare_train(folder: Path) -> Callable[[], object]:
    """One step of the first stage of a tiny model."""
    from tests.training.tiny import stage_settings, write_data, write_parts, write_run

    settings = stage_settings(1, write_data(folder / "data"), model=write_parts(folder))
    settings["sample_generations"] = {"num": 0}  # a step does not generate text
    file = write_run(folder / "run.yaml", settings)
    out, fit = ("output_dir", "optim") if "optim" in settings else ("out", "fit")
    return lambda: lhrs("train", file, f"{out}={folder / 'run'}", f"{fit}.steps=1", f"{fit}.warmup_steps=0")


def prepare_pretrain(folder: Path) -> Callable[[], object]:
    """One step of CMID on noise, from the recipe for a laptop."""
    import numpy as np
    from PIL import Image

    for n in range(8):
        values = np.random.default_rng(n).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(values).save(folder / f"{n}.png")
    recipe = ROOT / "recipes/cmid-eurosat.yaml"
    out, fit = ("output_dir", "optim") if "\noptim:" in recipe.read_text() else ("out", "fit")
    changes = [
        f"data.paths=[{folder}]",
        f"{out}={folder / 'run'}",
        f"{fit}.epochs=null",
        f"{fit}.steps=1",
        f"{fit}.batch_size=8",
    ]
    return lambda: lhrs("pretrain", recipe, *changes, "global_branch.queue_size=16")


def prepare_eval(folder: Path) -> Callable[[], object]:
    """The embedded model on twenty images in EuroSAT's folders."""
    import numpy as np
    from PIL import Image

    classes = ("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial")
    classes += ("Pasture", "PermanentCrop", "Residential", "River", "SeaLake")
    for n, name in enumerate(classes * 2):
        (folder / f"images/{name}").mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(n).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(values).save(folder / f"images/{name}/{name}_{n + 1}.jpg")
    return lambda: lhrs("eval", f"eurosat={folder / 'images'}", "--out", folder / "results")


PREPARE = {
    "ask": prepare_ask,
    "align": prepare_align,
    "train": prepare_train,
    "pretrain": prepare_pretrain,
    "eval": prepare_eval,
}


def is_loaded(file: str) -> bool:
    """Say whether a base module, or a file without functions, has been imported."""
    module = "lhrs." + file.removesuffix(".py").replace("/", ".")
    if module not in sys.modules:
        return False
    nodes = ast.walk(ast.parse((SRC / file).read_text()))
    return is_base(file) or not any(isinstance(node, ast.FunctionDef) for node in nodes)


def count(files: Iterable[str]) -> Counter[str]:
    """Return how often each file occurs, consecutive occurrences as one."""
    return Counter(file for file, _ in groupby(files))


def check(command: str, listed: list[str], trace: bool = False) -> list[str]:
    """Run one walk, print its entries, and return what is wrong with it."""
    tracer = Tracer()
    with tempfile.TemporaryDirectory() as folder:
        tracer.run(PREPARE[command](Path(folder)))
    counts = count(file for file, _ in tracer.entries if file in listed)
    others = count(file for file, _ in tracer.entries if file not in listed)
    missing = [file for file in listed if not counts[file] and not is_loaded(file)]
    print(f"\nlhrs {command}: {len(counts)} listed files in {counts.total()} entries, {len(others)} other files")
    print("      file                                     entries  rank")
    ranks = {file: rank for rank, file in enumerate(counts, 1)}
    for number, file in enumerate(listed, 1):
        entries = counts[file] or ("never entered" if file in missing else "loaded")
        print(f"{number:3}   {file:40} {entries:>7}  {ranks.get(file, '')}")
    print("     not listed: " + (", ".join(f"{file} {n}" for file, n in others.items()) or "nothing"))
    for number, (file, function) in enumerate(tracer.entries if trace else [], 1):
        print(f"     {number:3} {file}: {function}")
    problems = [f"{command}: {file} is never entered" for file in missing]
    problems += [f"{command}: {file} is entered {n} times" for file, n in counts.items() if n > 2]
    if len(listed) > 12:
        problems.append(f"{command}: {len(listed)} files are listed, at most 12 are allowed")
    return problems


def main() -> int:
    """Check the walks named on the command line, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("commands", nargs="*", choices=[*PREPARE, []], help="default: all")
    parser.add_argument("--trace", action="store_true", help="print every entry, in order")
    arguments = parser.parse_args()
    walks = read_walks((ROOT / "docs/architecture.md").read_text())
    problems: list[str] = []
    for command in arguments.commands or PREPARE:
        problems += check(command, walks[command], arguments.trace)
    print("\n" + ("\n".join(problems) or "Every listed file is entered, none more than twice."))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
