"""The architecture, as tests: who may import whom, no import cycles, how long a file may be, what the base may load."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import lhrs.cli

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src/lhrs"
FILES = sorted(p for p in SRC.rglob("*.py") if p.parent != SRC or p.name != "__init__.py")
BASE = {
    *("errors", "atomic_io", "registry", "config", "schema", "boxes", "block_executor", "reasoning"),
    *("dropped", "fingerprint", "jobs", "log", "progress"),
}
MAY_IMPORT = {
    **{name: BASE for name in BASE},
    "imagery": BASE,
    "models": BASE,
    "perception": BASE | {"imagery"},
    "metrics": BASE,
    "align": BASE | {"imagery"},
    "data": BASE | {"imagery"},
    "inference": BASE | {"imagery", "models", "perception"},  # models only in runtimes/torch, checked below
    "instruct": BASE | {"imagery", "align", "data", "perception"},
    "curate": BASE | {"imagery", "data", "align"},
    "cmid": BASE | {"imagery", "data", "metrics", "models"},
    "downstream": BASE | {"imagery", "data", "models", "metrics"},
    "scene": BASE | {"imagery", "inference"},
    "training": BASE | {"imagery", "data", "models", "cmid", "downstream", "inference", "perception"},
    "evaluation": BASE | {"align", "imagery", "instruct", "data", "inference", "metrics", "perception"},
    "serving": BASE | {"imagery", "inference", "scene"},
}
MAY_IMPORT["cli"] = BASE | MAY_IMPORT.keys()  # what may not be done there is checked below
MAY_IMPORT["__main__"] = {"cli"}
UPWARD: dict[tuple[str, str], str] = {}
"""Imports that point up, by file and package, each with its reason."""
CYCLES = [
    {"imagery.discover", "imagery.stac"},
]
"""Import cycles that are still there: this list only gets shorter."""
MODULE = re.compile(r"lhrs\.(\w+)[\w.]*(:\w+)?")
"""A module of lhrs named in a string, which is imported by its name."""


def part(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(tree: ast.AST) -> list[tuple[str, str]]:
    """Return (module, name) of each import at any level but under TYPE_CHECKING; name is "" for `import module`."""
    found: list[tuple[str, str]] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            found += [each for other in node.orelse for each in imports(other)]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found += [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        else:
            found += imports(node)
    return found


def named(path: Path) -> list[str]:
    """Return the modules of lhrs that a file imports, for types too, or names in a string."""
    nodes = list(ast.walk(tree_of(path)))
    names = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level and node.module]
    names += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    texts = [text for text in texts if (found := MODULE.fullmatch(text)) and found[1] in MAY_IMPORT]
    return [name for name in names if name.startswith("lhrs.")] + texts


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_imports_point_down(path):
    for name in named(path):
        other = name.split(".")[1].partition(":")[0]
        allowed = {part(path), "resources", *MAY_IMPORT[part(path)]}
        where = path.relative_to(SRC).as_posix()
        assert other in allowed or (where, other) in UPWARD, f"{part(path)} may not import {name}"


def test_the_documentation_shows_the_same_floors():
    table = (ROOT / "docs/architecture.md").read_text().partition("## Packages")[2].partition("## One ")[0]
    rows = re.findall(r"^\| (`.*?`) \|", table, re.M)
    floors = {name: floor for floor, row in enumerate(rows) for name in re.findall(r"`(\w+)`", row)}
    floors["__main__"] = -1
    assert not {part(path) for path in FILES} - floors.keys() - {"resources"}
    for package, others in MAY_IMPORT.items():
        for other in others - {package}:
            both_base = {package, other} <= BASE  # base modules use each other
            assert both_base or floors[package] < floors[other], f"{package} may import {other}, which is not below it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_nothing_imports_commands(path):
    commands = {f"lhrs.cli.{file}" for file, _ in lhrs.cli._COMMANDS.values()}
    if path.name == "chat.py":
        commands.remove("lhrs.cli.ask")  # `lhrs chat` is `lhrs ask` with a memory
    found = [name for name in named(path) if name.startswith("lhrs.cli")]
    if part(path) == "cli":
        assert not commands.intersection(found)
    else:
        assert not found or part(path) == "__main__"


@pytest.mark.parametrize("path", sorted(SRC.glob("cli/*.py")), ids=lambda p: p.name)
def test_commands_import_nothing_heavy_before_they_run(path):
    at_start = [node.module or "" for node in tree_of(path).body if isinstance(node, ast.ImportFrom)]
    ours = {name for name in at_start if name.startswith("lhrs.") and not name.startswith("lhrs.cli")}
    assert ours <= {"lhrs.errors", "lhrs.progress"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_what_is_private_stays_in_its_package(path):
    for module, name in imports(tree_of(path)):
        if module.startswith("lhrs.") and module.split(".")[1] != part(path):
            assert not re.search(r"(^|\.)_[a-z]", f"{module}.{name}"), f"{module}.{name} is private to its package"


def cycles(arrows: dict[str, set[str]]) -> list[set[str]]:
    """Return the sets of modules that reach each other."""

    def reach(start: str) -> set[str]:
        seen, todo = set(), [start]
        while todo:
            new = arrows.get(todo.pop(), set()) - seen
            seen |= new
            todo += new
        return seen

    reached = {name: reach(name) for name in arrows}
    circles = {frozenset(o for o in reached[n] if n in reached.get(o, ())) for n in arrows if n in reached[n]}
    return sorted(map(set, circles), key=sorted)


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(SRC).with_suffix("").parts)
    return name.removesuffix(".__init__")


def test_no_files_import_each_other_in_a_circle():
    modules = {module_of(path): path for path in FILES}
    arrows = {}
    for module, path in modules.items():
        full = {f"{name}.{member}".removeprefix("lhrs.") for name, member in imports(tree_of(path))}
        arrows[module] = {n if n in modules else n.rpartition(".")[0] for n in full} & modules.keys() - {module}
    found = cycles(arrows)
    assert not [circle for circle in found if not any(circle <= known for known in CYCLES)]


def test_cycles_are_found():
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set(), "f": {"g"}, "g": {"f"}}
    assert cycles(arrows) == [{"a", "b", "c"}, {"f", "g"}]
    code = "if TYPE_CHECKING:\n    import x\ndef f():\n    from lhrs.data import y\n"
    assert imports(ast.parse(code)) == [("lhrs.data", "y")]


def test_only_the_torch_runtime_knows_the_models():
    for path in FILES:
        if part(path) == "inference" and path.name != "torch.py":
            assert not [n for n in named(path) if n.startswith("lhrs.models")], path


def test_no_test_module_imports_another():
    for path in sorted((ROOT / "tests").rglob("*.py")):
        modules = {module for module, _ in imports(ast.parse(path.read_text()))}
        assert not [module for module in modules if re.match(r"tests\..*\btest_\w+$", module)], path


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_files_stay_small(path):
    lines = len(path.read_text().splitlines())
    assert lines <= 400, f"{lines} lines: split it"


@pytest.mark.parametrize(
    "module", ["lhrs", "lhrs.cli", "lhrs.imagery.image", "lhrs.schema", "lhrs.inference.runtimes.onnx", "lhrs.boxes"]
)
def test_the_base_loads_no_torch(module):
    code = f"import {module}, sys; print(sorted({{'torch', 'transformers', 'pandas'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
