"""Check of boxes: drawn squares, and models that write boxes in every notation, with noise, or not at all."""

import numpy as np
import pytest
import yaml
from tests.cli.conftest import run
from tests.evaluation.square_server import COLORS, serving

from lhrs.errors import ConfigError
from lhrs.evaluation.box_check import check_boxes
from lhrs.evaluation.box_drawings import draw
from lhrs.inference.family_file import open_family
from lhrs.inference.load import load
from lhrs.inference.options import ModelOptions

pytest.importorskip("openai")


def listed(numbers, decimals=0):
    return "[" + ", ".join(f"{n:.{decimals}f}" for n in numbers) + "]"


def image_pixels(unit, size):
    return f"It is at {listed(unit * np.tile(size, 2))}."


def qwen_pixels(unit, size):
    resized = [max(28, round(side / 28) * 28) for side in size]
    return f'```json\n[{{"bbox_2d": {listed(unit * np.tile(resized, 2))}, "label": "square"}}]\n```'


def rows_first(unit, size):
    return f'[{{"box_2d": {listed(unit[[1, 0, 3, 2]] * 1000)}, "label": "square"}}]'


def corner_and_size(unit, size):
    return listed([unit[0], unit[1], unit[2] - unit[0], unit[3] - unit[1]], 3)


def squeezed(unit, size):
    return listed(unit * 896)


def points(unit, size):
    x1, y1, x2, y2 = (unit * 1000).round().astype(int)
    return f'<points coords="1 1 {x1:03} {y1:03} 2 {x2:03} {y2:03}">corners</points>'


def thousandths(unit, size):
    return listed(unit * 1000)


def test_drawings_are_of_the_seed_and_the_number_only():
    drawings = draw(8, seed=3)
    again = draw(20, seed=3)
    for drawing, other in zip(drawings, again, strict=False):
        assert (drawing.pixels == other.pixels).all() and drawing.xyxy == other.xyxy
        width, height = drawing.size_wh
        x1, y1, x2, y2 = drawing.xyxy
        assert width != height and x2 - x1 == y2 - y1 and min(x1, y1) >= 0
        assert x2 <= width and y2 <= height
        mask = np.zeros((height, width), bool)
        mask[y1:y2, x1:x2] = True
        assert ((drawing.pixels == COLORS[drawing.color]).all(-1) == mask).all()
    assert (draw(1, seed=4)[0].pixels != drawings[0].pixels).any()
    assert len({drawing.size_wh for drawing in drawings}) == 8


@pytest.mark.parametrize(
    ("write", "order", "scale"),
    [
        (image_pixels, "xyxy", "image"), (corner_and_size, "xywh", 1), (squeezed, "xyxy", 896),
        (lambda unit, size: listed(unit[[1, 0, 3, 2]] * 100, 1), "yxyx", 100),
    ],
)  # fmt: skip
def test_a_notation_becomes_a_family_file(write, order, scale):
    with serving(write) as (url, bodies):
        check = check_boxes(load(url))
    assert check.outcome == "family file", check.findings
    config = check.family_file()
    assert (config.boxes.order, config.boxes.scale) == (order, scale)
    assert check.family_iou < 0.5 < check.best.mean_iou and check.best.accuracy == 1
    assert len(bodies) == check.num_drawings * (1 + len(check.findings))


@pytest.mark.parametrize(("write", "family"), [(qwen_pixels, "qwen2_5_vl"), (rows_first, "gemma"), (points, "molmo")])
def test_the_notation_of_a_family_is_recognized(write, family):
    with serving(write) as (url, _):
        check = check_boxes(load(url))
        assert check.outcome == "other family" and f"--family {family}" in check.message and not check.family_file()
        again = check_boxes(load(url, options=ModelOptions(family=family)))
    assert again.outcome == "right" and again.family == family


def test_a_model_that_writes_what_it_is_asked_for_needs_nothing():
    with serving(thousandths) as (url, _):
        check = check_boxes(load(url))
    assert check.outcome == "right" and check.family == "default" and check.family_iou > 0.7


@pytest.mark.parametrize(
    "write",
    [lambda unit, size: "I see a square.", lambda unit, size: "[100, 200, 500, 600]"],
    ids=["words", "constant"],
)
def test_answers_that_say_nothing_are_a_warning(write):
    with serving(write) as (url, _):
        check = check_boxes(load(url))
    assert check.outcome == "cannot tell" and check.family_file() is None and "cannot tell" in check.message


def test_a_random_model_is_a_warning(tmp_path):
    pytest.importorskip("torch")
    from tests.inference.foreign import save

    check = check_boxes(load(save("llava", tmp_path)), max_new_tokens=12)
    assert check.outcome == "cannot tell" and "answers to a prompt have a box" in check.message


def test_the_command_writes_a_file_that_the_other_commands_read(tmp_path):
    file = tmp_path / "some.yaml"
    with serving(image_pixels) as (url, _):
        done = run("check-boxes", url, "--out", file)
        assert "xyxy, pixels of the image" in done.stdout and "reads them wrong" in done.stderr
        assert yaml.safe_load(file.read_text())["boxes"] == {"order": "xyxy", "scale": "image"}
        drawing = draw(9)[8]
        assistant = load(url, options=ModelOptions(family=str(file)))
        found = assistant.ground(drawing.pixels, f"the {drawing.color} square").boxes[0].xyxy
    np.testing.assert_allclose(found, drawing.xyxy, atol=0.1 * (drawing.xyxy[2] - drawing.xyxy[0]))


def test_the_command_ends_with_1_if_it_cannot_tell(tmp_path):
    with serving(lambda unit, size: "none") as (url, _):
        done = run("check-boxes", url, "--out", tmp_path / "some.yaml", code=1)
    assert "warning: some-vl: cannot tell" in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ground_prompt: Find it.\nboxes: {order: xyxy}\n", "contains {expression}"),
        ("ground_prompt: Find {expression}.\nboxes: {order: xxyy}\n", "boxes.order"),
        ("ground_prompt: Find {expression}.\nboxes: {scale: 0}\n", "above 0"),
        ("ground_prompt: Find {expression}.\nboxes: {unit: 1}\n", "unknown key 'unit'"),
        ("ground_prompt: Find {expression}.\nbase: nobody\nboxes: {}\n", "nobody"),
    ],
)
def test_a_wrong_family_file_is_one_line(tmp_path, text, message):
    (tmp_path / "family.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        open_family(str(tmp_path / "family.yaml"))
    assert message in str(error.value) and "\n" not in str(error.value)
