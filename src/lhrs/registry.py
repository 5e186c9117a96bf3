"""Registry of components: the name of a component is the name of its file.

`get_component("lhrs.data.datasets", "rsvqa", Dataset)` imports `lhrs/data/datasets/rsvqa.py` and returns the one
subclass of `Dataset` defined there. A new file is a new component; there is no table to edit. `list_components` imports
nothing. Other packages add components by an entry point whose group is the folder's dotted name; it overrides a file.
"""

from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import iter_modules
from types import ModuleType
from typing import TypeVar

from lhrs.errors import ConfigError

T = TypeVar("T")


def list_components(package: str) -> list[str]:
    """Return the sorted names of the modules and entry points in `package`, importing none of them.

    A module whose name begins with an underscore is not a component.
    """
    return sorted({*_modules(package), *_points(package)})


def get_component(package: str, name: str, base: type[T]) -> type[T]:
    """Return the component called `name`: the subclass of `base` in that module, or the object of the entry point.

    Raises:
        ConfigError: There is no such name, or its module contains no `base`.
        TypeError: Its module defines several.
    """
    known = list_components(package)
    if name not in known:
        nearest = get_close_matches(name, known, n=1)
        raise ConfigError(
            f"no {_kind(package)} is called {name!r}."
            + (f" Did you mean {nearest[0]!r}?" if nearest else "")
            + f" Known: {', '.join(known) or 'none'}."
        )
    component = _load(package, name, base, _points(package))
    if component is None:
        raise ConfigError(f"{name!r} in {package} is no {_kind(package)}: it defines no {base.__name__}.")
    return component


def load_components(package: str, base: type[T]) -> dict[str, type[T]]:
    """Import everything in `package` and return name -> component; modules that define no `base` are ignored.

    Raises:
        TypeError: A module defines several.
    """
    points = _points(package)
    loaded = {name: _load(package, name, base, points) for name in sorted({*_modules(package), *points})}
    return {name: component for name, component in loaded.items() if component is not None}


def _modules(package: str) -> list[str]:
    """Return the names of the modules in a package, without private ones."""
    modules = iter_modules(import_module(package).__path__)
    return [module.name for module in modules if not module.name.startswith("_")]


@cache
def _points(package: str) -> dict[str, EntryPoint]:
    """Return the entry points of a package by name, read once from the metadata of all distributions."""
    return {point.name: point for point in entry_points(group=package)}


def _load(package: str, name: str, base: type[T], points: dict[str, EntryPoint]) -> type[T] | None:
    if name in points:
        return points[name].load()
    module = import_module(f"{package}.{name}")
    components = _defined(module, base)
    if len(components) > 1:
        several = ", ".join(component.__name__ for component in components)
        raise TypeError(f"{module.__name__} must define one public {base.__name__}, not {len(components)}: {several}")
    return components[0] if components else None


def _defined(module: ModuleType, base: type[T]) -> list[type[T]]:
    """Return the public subclasses of `base` that `module` defines itself, not those it imports."""
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    own = [c for c in classes if c.__module__ == module.__name__ and not c.__name__.startswith("_")]
    return [c for c in own if issubclass(c, base)]


def _kind(package: str) -> str:
    """Return the kind of the package's components in the singular: `dataset` for `lhrs.data.datasets`."""
    return package.rpartition(".")[2].removesuffix("s")
