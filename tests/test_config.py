from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from lhrs.config import Config, load_config, save_config
from lhrs.errors import ConfigError


class Stage(Config):
    name: str
    lr: float = 1e-3


class TextSource(Config):
    kind: Literal["text"]
    path: str


class ImageSource(Config):
    kind: Literal["image"]
    folder: Path
    side: int = 224


class Fit(Config):
    steps: int
    batch_size: int = 8
    stages: list[Stage] = [Stage(name="align"), Stage(name="tune", lr=2e-5)]


class Run(Config):
    seed: int = 0
    fit: Fit
    data: list[Annotated[TextSource | ImageSource, Field(discriminator="kind")]] = []
    lora: Stage | None = None
    extra: dict[str, Any] = {}


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return path

    return write


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(Run, path, overrides)
    message = str(caught.value)
    assert "\n" not in message, "must be one line"
    return message


def test_what_a_file_omits_is_the_default(write):
    run = load_config(Run, write("fit: {steps: 100}\n"))
    assert (run.fit.steps, run.fit.batch_size, run.seed) == (100, 8, 0)


def test_an_unknown_key_names_key_place_neighbour_and_known_keys(write):
    path = write("fit: {steps: 100, batchsize: 4}\n")
    assert refusal(path) == (
        f"{path}: unknown key 'batchsize' in fit. Did you mean 'batch_size'? Known keys: batch_size, stages, steps."
    )


def test_an_unknown_key_far_from_all_others_gets_no_guess(write):
    message = refusal(write("fit: {steps: 1}\nzzz: 1\n"))
    assert "unknown key 'zzz' in the top level. Known keys: data, extra, fit, lora, seed." in message


def test_a_misspelt_key_is_told_before_the_missing_one_that_it_should_have_been(write):
    message = refusal(write("fit: {stpes: 100}\n"))
    assert "unknown key 'stpes' in fit. Did you mean 'steps'?" in message
    assert message.endswith("And 1 more problem.")


def test_unknown_keys_in_lists_of_unions_are_located_as_in_the_file(write):
    path = write("fit: {steps: 1}\ndata: [{kind: image, folder: a, sidee: 3}]\n")
    message = refusal(path)
    assert "unknown key 'sidee' in data.0. Did you mean 'side'? Known keys: folder, kind, side." in message


def test_a_wrong_type_is_one_line_with_the_value(write):
    path = write("fit: {steps: many}\n")
    expected = "fit.steps: Input should be a valid integer, unable to parse string as an integer (got 'many')."
    assert refusal(path) == f"{path}: {expected}"


def test_a_missing_key_is_named(write):
    path = write("fit: {batch_size: 2}\n")
    assert refusal(path) == f"{path}: fit.steps is missing."


def test_an_override_wins_over_the_file(write):
    run = load_config(Run, write("fit: {steps: 1}\nseed: 3\n"), ["fit.steps=7", "seed=4", "seed=5"])
    assert (run.fit.steps, run.seed) == (7, 5)


def test_list_items_are_meant_by_name_or_by_position(write):
    path = write("fit: {steps: 1, stages: [{name: align}, {name: tune}]}\n")
    run = load_config(Run, path, ["fit.stages.tune.lr=1e-5", "fit.stages.0.lr=0.5"])
    assert [stage.lr for stage in run.fit.stages] == [0.5, 1e-5]


def test_an_override_reaches_into_a_list_that_only_the_defaults_have(write):
    run = load_config(Run, write("fit: {steps: 1}\n"), ["fit.stages.tune.lr=0.25"])
    assert [(stage.name, stage.lr) for stage in run.fit.stages] == [("align", 1e-3), ("tune", 0.25)]


def test_an_override_opens_a_section_that_is_off_by_default(write):
    run = load_config(Run, write("fit: {steps: 1}\n"), ["lora.name=x", "extra.a.b=[1, 2]"])
    assert run.lora == Stage(name="x") and run.extra == {"a": {"b": [1, 2]}}


def test_an_override_supplies_what_the_file_lacks(write):
    assert load_config(Run, write(""), ["fit.steps=9"]).fit.steps == 9


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("fit.stpes=3", "override 'fit.stpes=3': unknown key 'stpes' in fit. Did you mean 'steps'?"),
        ("fti.steps=3", "override 'fti.steps=3': unknown key 'fti' in the top level. Did you mean 'fit'?"),
        ("fit.steps=many", "override 'fit.steps=many': fit.steps: Input should be a valid integer"),
        ("fit.stages.tun.lr=1", "the list has no item 'tun'. It has 2 items, named align, tune."),
        ("fit.stages.2.lr=1", "the list has no item '2'"),
        ("fit.steps.x=1", "there is nothing below 1 to set 'x' in"),
        ("fit.steps", "is not of the form key=value"),
        ("fit..steps=1", "is not of the form key=value"),
        ("extra=[1", "the value is not valid YAML"),
    ],
)
def test_a_wrong_override_is_quoted(write, override, expected):
    assert expected in refusal(write("fit: {steps: 1}\n"), override)


def test_a_mistake_in_the_file_is_not_blamed_on_an_override(write):
    path = write("fit: {steps: many}\n")
    assert refusal(path, "seed=1", "fit.batch_size=2").startswith(f"{path}: ")


def test_exponents_without_a_point_are_numbers(write):
    run = load_config(Run, write("fit: {steps: 1}\nextra: {lr: 1e-5, name: e5, version: 1.2.3}\n"))
    assert run.extra == {"lr": 1e-5, "name": "e5", "version": "1.2.3"}


def test_a_key_given_twice_is_refused(write):
    path = write("fit:\n  steps: 1\n  steps: 2\n")
    assert refusal(path) == f"{path}: not valid YAML (line 3: key 'steps' is set twice)."


@pytest.mark.parametrize(
    ("text", "expected"),
    [("fit: [1", "not valid YAML (line 1"), ("- 1\n- 2\n", "a run file is a mapping of keys to values, not a list")],
)
def test_files_that_are_no_run_files_are_refused(write, text, expected):
    assert expected in refusal(write(text))


def test_a_missing_file_is_named(tmp_path):
    assert refusal(tmp_path / "no.yaml") == f"{tmp_path / 'no.yaml'} does not exist."


def test_a_saved_run_loads_as_itself_and_holds_the_defaults(write, tmp_path):
    run = load_config(Run, write("fit: {steps: 3}\ndata: [{kind: image, folder: a/b}]\n"), ["fit.stages.tune.lr=1e-7"])
    save_config(run, tmp_path / "resolved.yaml")
    assert load_config(Run, tmp_path / "resolved.yaml") == run
    assert "batch_size: 8" in (tmp_path / "resolved.yaml").read_text()
    assert [path.name for path in tmp_path.glob("*.part")] == []
