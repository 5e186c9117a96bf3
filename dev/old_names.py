"""Prints where a name of dev/old_names.txt is left in src, recipes, docs or README.md.

    python dev/old_names.py            # the counts by kind
    python dev/old_names.py --all      # every place

Exit code 1 if there is any that `EXCEPTIONS` does not name.
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src/lhrs"
KINDS = ("file", "name", "key", "option", "artifact", "spelling")
EXCEPTIONS: dict[tuple[str, str], str] = {}
"""Old names, by kind and name, that stay, each with its reason: at most 10."""
COMMAND_FILES = {"eval": "evaluate"}
"""The file in src/lhrs/cli of commands that are called otherwise."""


@dataclass(frozen=True)
class Entry:
    """A line of the table."""

    kind: str
    scope: str
    old: str
    new: str


@dataclass(frozen=True)
class Left:
    """A place where an old name is left."""

    entry: Entry
    place: str


def read_table() -> list[Entry]:
    """Return the entries of dev/old_names.txt."""
    lines = (ROOT / "dev/old_names.txt").read_text().splitlines()
    return [Entry(*line.split(None, 3)) for line in lines if line.strip() and not line.startswith("#")]


@cache
def sources() -> dict[str, ast.Module]:
    """Return the syntax trees of src/lhrs by path."""
    return {path.relative_to(SRC).as_posix(): ast.parse(path.read_text()) for path in sorted(SRC.rglob("*.py"))}


@cache
def documents() -> dict[str, str]:
    """Return README.md and docs/*.md by path."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text() for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]
    }


@cache
def definitions(file: str) -> list[tuple[str, str, int]]:
    """Return (class or "", name, line) of what a file defines: functions, classes, members and constants."""
    found: list[tuple[str, str, int]] = []

    def visit(body: list[ast.stmt], owner: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.append((owner, node.name, node.lineno))
                if isinstance(node, ast.ClassDef):
                    visit(node.body, node.name)
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            found.extend((owner, target.id, node.lineno) for target in targets if isinstance(target, ast.Name))

    visit(sources()[file].body, "")
    return found


def in_scope(file: str, scope: str) -> bool:
    """Say whether a file lies in a package or is the file itself."""
    return scope == "*" or file == scope or file.startswith(f"{scope}/") or file == f"{scope}.py"


def in_documents(pattern: str, code_only: bool = True) -> Iterator[str]:
    """Yield the lines of README.md and docs that a pattern matches, in code (`...` or blocks) or anywhere."""
    for file, text in documents().items():
        is_block = False
        for number, line in enumerate(text.splitlines(), 1):
            is_block ^= line.startswith("```")
            shown = (
                line if is_block or line.startswith("    ") or not code_only else " ".join(re.findall("`[^`]*`", line))
            )
            if re.search(pattern, shown):
                yield f"{file}:{number}"


def left_files(entry: Entry) -> Iterator[str]:
    """Yield the file if it exists."""
    if (SRC / entry.old).exists() and entry.old != entry.new:
        yield f"src/lhrs/{entry.old}"


def left_names(entry: Entry) -> Iterator[str]:
    """Yield definitions of a name in its scope, and mentions in documents."""
    owner, _, name = entry.old.rpartition(".")
    for file in sources():
        if in_scope(file, entry.scope):
            for of, defined, line in definitions(file):
                if defined == name and owner in ("", of):
                    yield f"src/lhrs/{file}:{line}"
    if not owner and re.search(r"[a-z]_?[A-Z]|[a-z]_[a-z]", name.strip("_")):
        yield from in_documents(rf"\b{name}\b")


def keys_of(value: Any, above: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key above, key) of everything in a YAML file."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield above, str(key)
            yield from keys_of(below, str(key))
    for item in value if isinstance(value, list) else ():
        yield from keys_of(item, above)


def left_keys(entry: Entry) -> Iterator[str]:
    """Yield recipes that have a key, and schemas of training with a field of that name."""
    above, _, name = entry.old.rpartition(".")
    for path in sorted((ROOT / "recipes").rglob("*.yaml")):
        place = path.relative_to(ROOT).as_posix()
        if entry.scope == "*" or place.startswith(entry.scope):
            keys = keys_of(yaml.safe_load(path.read_text()))
            if any(key == name and above in ("", parent) for parent, key in keys):
                yield place
    if entry.scope == "*" and not above:
        for file in sources():
            if re.match(r"training/(.*_config|.*_run|run|base)\.py", file):
                yield from (f"src/lhrs/{file}:{n}" for owner, key, n in definitions(file) if owner and key == name)


def left_options(entry: Entry) -> Iterator[str]:
    """Yield parameters and option names of a command's file, and lines of documents with the command and the option."""
    file = f"cli/{COMMAND_FILES.get(entry.scope, entry.scope)}.py"
    parameter = entry.old.removeprefix("--").replace("-", "_")
    for node in ast.walk(sources()[file]):
        names = [node.value] if isinstance(node, ast.Constant) else []
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            names = [f"--{arg.arg}".replace("_", "-") for arg in node.args.args + node.args.kwonlyargs]
            declared = {
                c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and str(c.value).startswith("--")
            }
            if f"--{parameter}" not in declared and any(entry.new in str(c) for c in declared):
                names = []  # the parameter keeps its name, the option has the new one
        if entry.old in names:
            yield f"src/lhrs/{file}:{getattr(node, 'lineno', 0)}"
    option = re.escape(entry.old)
    yield from in_documents(rf"lhrs {entry.scope}\b.*(?<![\w-]){option}(?![\w-])")


def left_artifacts(entry: Entry) -> Iterator[str]:
    """Yield strings of src with the name, and mentions in documents."""
    pattern = re.escape(entry.old).replace("best\\-N", "best-.*")
    for file, tree in sources().items():
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            if "\n" not in text and re.search(rf"(?<![\w-]){pattern}(?!\w)", text):
                yield f"src/lhrs/{file}:{getattr(node, 'lineno', 0)}"
    yield from in_documents(rf"(?<![\w-]){pattern}(?!\w)")


def left_spellings(entry: Entry) -> Iterator[str]:
    """Yield identifiers with a part spelled so: what a file defines, and keys of recipes."""
    for file in sources():
        for _, name, line in definitions(file):
            if entry.old in name.lower():
                yield f"src/lhrs/{file}:{line}"
    for path in sorted((ROOT / "recipes").rglob("*.yaml")):
        if any(entry.old in key for _, key in keys_of(yaml.safe_load(path.read_text()))):
            yield path.relative_to(ROOT).as_posix()


def find() -> list[Left]:
    """Return every place where an old name is left, but exceptions."""
    finders = dict(
        zip(KINDS, (left_files, left_names, left_keys, left_options, left_artifacts, left_spellings), strict=True)
    )
    entries = [entry for entry in read_table() if (entry.kind, entry.old) not in EXCEPTIONS]
    return [Left(entry, place) for entry in entries for place in sorted(set(finders[entry.kind](entry)))]


def main() -> int:
    """Print what is left."""
    left = find()
    if "--all" in sys.argv:
        for one in left:
            print(f"{one.place}: {one.entry.kind} {one.entry.old} is now {one.entry.new}")
    counts = Counter(one.entry.kind for one in left)
    names = Counter(one.entry.kind for one in {Left(one.entry, "") for one in left})
    for kind in KINDS:
        print(f"{kind:9} {names[kind]:4} old names left, in {counts[kind]} places")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
