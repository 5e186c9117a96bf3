import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from lhrs import registry
from lhrs.errors import ConfigError


class Animal:
    pass


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A package of components named like the test's folder, so that no two tests share a module."""
    package = tmp_path / f"zoo_{tmp_path.name}".replace("-", "_") / "animals"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "Animal", Animal)

    def write(name: str, text: str) -> str:
        (package / f"{name}.py").write_text(f"from {__name__} import Animal\n{text}")
        return f"{package.parent.name}.animals"

    return write


def test_a_new_file_is_a_new_component(zoo):
    package = zoo("cat", "class Cat(Animal): pass\n")
    assert registry.list_components(package) == ["cat"]
    assert registry.get_component(package, "cat", Animal).__name__ == "Cat"


def test_listing_names_imports_nothing(zoo):
    package = zoo("bomb", "raise RuntimeError('imported')\n")
    assert registry.list_components(package) == ["bomb"]


def test_an_unknown_name_gets_its_neighbour_and_all_names(zoo):
    zoo("cat", "class Cat(Animal): pass\n")
    package = zoo("dog", "class Dog(Animal): pass\n")
    with pytest.raises(ConfigError) as caught:
        registry.get_component(package, "cta", Animal)
    assert str(caught.value) == "no animal is called 'cta'. Did you mean 'cat'? Known: cat, dog."


def test_imported_and_private_classes_are_no_components(zoo):
    zoo("cat", "class Cat(Animal): pass\n")
    package = zoo("lion", "from .cat import Cat\nclass _Big(Cat): pass\nclass Lion(_Big): pass\n")
    assert registry.get_component(package, "lion", Animal).__name__ == "Lion"


def test_a_module_without_a_component_is_passed_over(zoo):
    zoo("cat", "class Cat(Animal): pass\n")
    package = zoo("food", "def feed(): pass\n")
    assert list(registry.load_components(package, Animal)) == ["cat"]
    with pytest.raises(ConfigError, match=r"'food' in .* is no animal: it defines no Animal"):
        registry.get_component(package, "food", Animal)


def test_two_components_in_one_file_are_a_mistake(zoo):
    package = zoo("pair", "class A(Animal): pass\nclass B(Animal): pass\n")
    with pytest.raises(TypeError, match="must define one public Animal, not 2: A, B"):
        registry.get_component(package, "pair", Animal)


def test_other_packages_join_in_with_an_entry_point(zoo, monkeypatch):
    package = zoo("cat", "class Cat(Animal): pass\n")
    point = EntryPoint("dog", f"{__name__}:Animal", package)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == package else [])
    assert registry.list_components(package) == ["cat", "dog"]
    assert registry.get_component(package, "dog", Animal) is Animal


def test_conversation_data_needs_no_torch():
    code = (
        "import sys; from lhrs import registry, schema, config; from lhrs.data import lint; import lhrs.cli.data;"
        "from lhrs.data.dataset import Dataset;"
        "names = ['captions', 'coco_boxes', 'image_folder', 'jsonl', 'parquet', 'rsvqa', 'ucm_captions'];"
        "[registry.get_component('lhrs.data.datasets', name, Dataset) for name in names];"
        "sys.exit(', '.join(sorted({'torch', 'pyarrow', 'transformers'} & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, f"loads {done.stderr}"
