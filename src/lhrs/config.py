"""Run files: YAML, read by OmegaConf, validated by strict pydantic models, with dotted overrides.

A run is one YAML file; omitted keys have the model's default. An unknown key, a wrong type or a missing key is one line
that states where it is and what is expected. Overrides are `optim.lr=1e-5`; an item of a list is addressed by its
position or by its `name`: `data.1.weight=2`, `data.rsicd.weight=2`.
"""

import os
import reprlib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, to_jsonable_python

from lhrs.errors import ConfigError, MissingExtraError

_TWICE = "found duplicate key "
"""OmegaConf's message."""

Location = tuple[str | int, ...]
"""Keys and positions from the top of a file down to one value."""


class Config(BaseModel):
    """Base of every section of a run file: unknown keys are refused, values do not change after reading.

    A choice between sections is a union with a discriminator, so that an error is reported for the intended section.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


ConfigT = TypeVar("ConfigT", bound=BaseModel)


def load_config(schema: type[ConfigT], path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> ConfigT:
    """Read a run file.

    Args:
        schema: The model of the whole file.
        path: The YAML file.
        overrides: `dotted.key=value`, the value in YAML; they win over the file, later ones over earlier ones.

    Raises:
        ConfigError: The file is missing or no YAML mapping, or a key or a value is wrong; in one line.
    """
    values = _read(Path(path))
    origins = {_override(values, schema, override): override for override in overrides}
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        shown = _shown(_first(error)["loc"], values)
        from_override = [text for keys, text in origins.items() if shown[: len(keys)] == keys]
        source = f"override {from_override[-1]!r}" if from_override else str(path)
        raise ConfigError(f"{source}: {validation_message(error, schema, values)}") from None


def save_config(config: BaseModel, path: str | os.PathLike[str]) -> None:
    """Write every setting, including defaults; `load_config` returns an equal config."""
    path = Path(path)
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def validation_message(error: ValidationError, schema: type[BaseModel], values: Any) -> str:
    """Return one line about why `schema` refused `values`.

    An unknown key is reported first, since it is often the reason why another key is missing.
    """
    first = _first(error)
    shown = _shown(first["loc"], values)
    where = ".".join(map(str, shown))
    if first["type"] == "extra_forbidden":
        *section, key = shown
        known = sorted({name for model in _models_at(schema, first["loc"][:-1]) for name in model.model_fields})
        nearest = get_close_matches(str(key), known, n=1)
        text = f"unknown key {str(key)!r} in {'.'.join(map(str, section)) or 'the top level'}."
        text += f" Did you mean {nearest[0]!r}?" if nearest else ""
        text += f" Known keys: {', '.join(known)}."
    elif first["type"] == "missing":
        text = f"{where} is missing."
    else:
        reason = first["msg"].removeprefix("Value error, ").rstrip(".")
        got = "" if isinstance(first["input"], dict) else f" (got {reprlib.repr(first['input'])})"
        text = f"{where}: {reason}{got}." if where else f"{reason}."
    more = error.error_count() - 1
    return text + (f" And {more} more problem{'s' if more > 1 else ''}." if more else "")


def _first(error: ValidationError) -> ErrorDetails:
    """Return the problem to report: an unknown key before anything else."""
    return min(error.errors(), key=lambda details: details["type"] != "extra_forbidden")


def _shown(location: Location, values: Any) -> Location:
    """Remove from pydantic's location the names of union members, which are not in the file."""
    shown: list[str | int] = []
    for step in location[:-1]:
        if isinstance(step, int) if isinstance(values, list) else isinstance(values, dict) and step in values:
            shown.append(step)
            values = values[step]
    return (*shown, *(step for step in location[-1:] if isinstance(values, dict) or isinstance(step, int)))


def _models_at(schema: type[BaseModel], location: Location) -> list[type[BaseModel]]:
    """Return the possible models at `location`: several for a union."""
    models = [schema]
    for step in location:
        tagged = [model for model in models if _is_tagged(model, step)]
        fields = [model.model_fields[str(step)] for model in models if str(step) in model.model_fields]
        if fields:
            models = [model for field in fields for model in _models_in(field.annotation)]
        elif tagged:
            models = tagged  # any other step is a position in a list or a key of a dict
    return models


def _is_tagged(model: type[BaseModel], tag: str | int) -> bool:
    """Tell whether pydantic means `model` when it writes `tag` for a member of a union."""
    literals = (field.annotation for field in model.model_fields.values() if get_origin(field.annotation) is Literal)
    return any(tag in get_args(literal) for literal in literals)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models in an annotation such as `list[A | B] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def _override(values: dict[str, Any], schema: type[BaseModel], override: str) -> Location:
    """Set one override in `values`; return the location of the first key that it added or changed."""
    from omegaconf import OmegaConf

    name, equals, text = override.partition("=")
    if not equals or not all(name.split(".")):
        raise ConfigError(f"override {override!r} is not of the form key=value, such as optim.lr=1e-5.")
    try:
        value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"]  # type: ignore[index, call-overload]
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: the value is not valid YAML ({_reason(error)}).") from None
    node: Any = values
    location: Location = ()
    changed: Location = ()
    *parents, last = name.split(".")
    for key in parents:
        step = _step(node, key, override)
        if isinstance(node, dict) and node.get(key) is None:
            node[key] = _default(schema, location, key)
            changed = changed or (*location, step)
        node, location = node[step], (*location, step)
    step = _step(node, last, override)
    node[step] = value
    return changed or (*location, step)


def _step(node: Any, key: str, override: str) -> str | int:
    """Return `key` as an index of `node`: the key itself in a mapping, the position of the named item in a list."""
    if isinstance(node, dict):
        return key
    if not isinstance(node, list):
        raise ConfigError(f"override {override!r}: there is nothing below {reprlib.repr(node)} to set {key!r} in.")
    names = [item.get("name") if isinstance(item, dict) else None for item in node]
    if key in names:
        return names.index(key)
    if key.isdecimal() and int(key) < len(node):
        return int(key)
    known = [str(name) for name in names if name is not None]
    raise ConfigError(
        f"override {override!r}: the list has no item {key!r}. It has {len(node)} items"
        + (f", named {', '.join(known)}." if known else ", without names.")
    )


def _default(schema: type[BaseModel], location: Location, key: str) -> Any:
    """Return the default of a section that the file omits, as plain dicts and lists, for an override to change."""
    for model in _models_at(schema, location):
        field = model.model_fields.get(key)
        if field is not None and not field.is_required():
            default = to_jsonable_python(field.get_default(call_default_factory=True))
            return {} if default is None else default
    return {}


def _read(path: Path) -> dict[str, Any]:
    try:
        from omegaconf import OmegaConf
    except ImportError:
        raise MissingExtraError("run files need OmegaConf: pip install 'lhrs[train]'") from None
    try:
        values = OmegaConf.to_container(OmegaConf.load(path))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML ({_reason(error)}).") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a run file is a mapping of keys to values, not a {type(values).__name__}.")
    return cast(dict[str, Any], values)


def _reason(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}: " if mark is not None else ""
    reason = " ".join(str(getattr(error, "problem", None) or error).split())
    return place + (f"key {reason.removeprefix(_TWICE)!r} is set twice" if reason.startswith(_TWICE) else reason)
