"""Every benchmark is in the README and in the comparison of two checkouts."""

import importlib.util
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "benchmarks"
SHARED = {"compare", "models", "report"}


def compare_module():
    spec = importlib.util.spec_from_file_location("compare", FOLDER / "compare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_benchmark_is_listed_and_compared():
    names = {path.stem for path in FOLDER.glob("*.py")} - SHARED
    assert names == set(compare_module().BENCHMARKS)
    page = (FOLDER / "README.md").read_text()
    assert all(f"python benchmarks/{name}.py" in page for name in names)


def test_seconds_are_read_from_every_form_of_output(monkeypatch, tmp_path):
    module = compare_module()
    assert module._json("a.b", rates=("c",))('x\n{"a": {"b": 2}, "c": 4}') == {"a.b": 2.0, "c": 0.25}
    assert module._text(r"([\d.]+) ms")("one 1.5 ms\ntwo 2 ms") == {"number 1": 1.5, "number 2": 2.0}
    seconds = {tmp_path: iter([1.0, 2.0, 4.0]), module.HERE: iter([1.1, 2.2, 8.0])}
    monkeypatch.setattr(module, "run", lambda checkout, name, cpu: {"step": next(seconds[checkout])})
    old, new, ratio = module.compare(tmp_path, "any", 3, False)["step"]
    assert (old, new) == (2.0, 2.2) and abs(ratio - 1.1) < 1e-9
