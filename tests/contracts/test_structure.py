"""The architecture, as tests: who may import whom, how big a file may grow, and what the base install may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src/lhrs"
FILES = sorted(p for p in SRC.rglob("*.py") if p.parent != SRC or p.name != "__init__.py")
BASE = {
    *("errors", "files", "registry", "config", "schema", "boxes", "blocks"),
    *("dropped", "fingerprint", "jobs", "progress"),
}
MAY_IMPORT = {
    **{name: BASE for name in BASE},
    "imagery": BASE,
    "align": BASE | {"imagery"},
    "instruct": BASE | {"imagery", "align", "data"},
    "data": BASE | {"imagery"},
    "curate": BASE | {"imagery", "data", "align"},
    "models": BASE,
    "cmid": BASE | {"imagery", "data", "metrics", "models"},
    "downstream": BASE | {"imagery", "data", "models", "metrics"},
    "training": BASE | {"imagery", "data", "models", "cmid", "downstream", "inference"},
    "nano": BASE | {"imagery", "data", "models", "inference", "metrics", "training"},
    "inference": BASE | {"imagery", "models"},  # models only in runtimes/torch, checked below
    "metrics": BASE,
    "serving": BASE | {"imagery", "inference", "scene"},
    "scene": BASE | {"imagery", "inference"},
    "evaluation": BASE | {"align", "imagery", "instruct", "data", "inference", "metrics"},
    "cli": BASE
    | {
        "imagery",
        "align",
        "curate",
        "instruct",
        "data",
        "models",
        "cmid",
        "downstream",
        "training",
        "nano",
        "inference",
        "scene",
        "serving",
        "evaluation",
        "metrics",
    },
    "__main__": {"cli"},
}
TOO_LONG: set[str] = set()  # files that may exceed the limit, each with a reason beside it


def part(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imported(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.append(node.module)
        elif isinstance(node, ast.Import):
            names += [a.name for a in node.names]
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_imports_point_down(path):
    for name in imported(path):
        if name.startswith("lhrs."):
            other = name.split(".")[1]
            assert other == part(path) or other in MAY_IMPORT[part(path)], f"{part(path)} may not import {name}"


def test_only_the_torch_runtime_knows_the_models():
    for path in FILES:
        if part(path) == "inference" and path.name != "torch.py":
            assert not [n for n in imported(path) if n.startswith("lhrs.models")], path


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_files_stay_small(path):
    lines = len(path.read_text().splitlines())
    assert lines <= 400 or str(path.relative_to(SRC)) in TOO_LONG, f"{lines} lines: split it"


@pytest.mark.parametrize(
    "module", ["lhrs", "lhrs.cli", "lhrs.imagery.open", "lhrs.schema", "lhrs.inference.runtimes.onnx", "lhrs.boxes"]
)
def test_the_base_loads_no_torch(module):
    code = f"import {module}, sys; print(sorted({{'torch', 'transformers', 'pandas'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
