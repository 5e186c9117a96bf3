"""Every code finds the defect planted into data that is good otherwise, and nothing but it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lhrs.boxes import scale_boxes, xywh_to_xyxy, xyxy_to_xywh
from lhrs.data.dataset import open_dataset
from lhrs.data.lint import CODES, Finding, lint
from lhrs.schema import Box, Sample, Turn

SIZES = [(96, 64), (64, 120), (80, 80), (100, 40)]
Write = Callable[..., Path]


@pytest.fixture
def good(write_image: Write) -> list[Sample]:
    """Twelve samples, three boxes each, on images of four shapes; each image in one split."""
    samples = []
    rng = np.random.default_rng(3)
    for i in range(12):
        width, height = SIZES[i % len(SIZES)]
        corners = np.sort(rng.uniform(0, 1, (3, 2, 2)), axis=1) * [width - 4, height - 4]
        corners[:, 1] += 4
        boxes = [Box(label="ship", xyxy=tuple(box)) for box in corners.reshape(3, 4).tolist()]
        turns = [
            Turn(role="system", text="Be brief."),
            Turn(role="user", text="<image>\nHow many ships?"),
            Turn(role="assistant", text="Three.", boxes=boxes[:1]),
            Turn(role="user", text="And people?"),
            Turn(role="assistant", text="I can't tell."),
        ]
        split = "train" if i < 8 else "val"
        image = str(write_image(f"{i}.png", width, height))
        samples.append(
            Sample(
                id=f"set/{i}", images=[image], turns=turns, boxes=boxes, source="set", license="CC0-1.0", split=split
            )
        )
    return samples


def change(sample: Sample, **fields: object) -> Sample:
    return Sample.model_validate(sample.model_dump() | fields)


def plant(samples: list[Sample], **fields: object) -> list[Sample]:
    """Change the fields of the fifth sample."""
    return [*samples[:4], change(samples[4], **fields), *samples[5:]]


def single(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, [finding.model_dump() for finding in findings]
    assert findings[0].code in CODES and "\n" not in findings[0].message
    return findings[0]


def assert_planted(samples: list[Sample], code: str, message: str, severity: str = "error") -> None:
    finding = single(lint(samples))
    assert (finding.code, finding.severity, finding.sample) == (code, severity, "set/4"), finding
    assert message in finding.message


def test_good_data_has_no_findings(good):
    assert lint(good) == [] and lint(good, check_images=False) == []


def test_two_samples_with_one_id(good):
    twin = change(good[4], turns=[{"role": "user", "text": "a"}, {"role": "assistant", "text": "b"}])
    assert_planted([*good, twin], "duplicate-id", "set has another sample with this id")


def test_ids_may_repeat_between_sources(good):
    assert lint([*good, change(good[4], source="other", turns=[], boxes=[])]) == []


def test_same_pixels_and_turns_under_another_name(good, tmp_path):
    shutil.copy(good[1].images[0], tmp_path / "copy.png")
    samples = plant(good, images=[str(tmp_path / "copy.png")], boxes=good[1].boxes, turns=good[1].turns)
    assert_planted(samples, "duplicate", "same images and turns as set/1", severity="warning")


def test_same_image_with_other_turns_is_no_duplicate(good):
    turns = [{"role": "user", "text": "Is it a port?"}, {"role": "assistant", "text": "Yes."}]
    assert lint(plant(good, images=good[1].images, boxes=good[1].boxes, turns=turns)) == []


def test_one_image_in_two_splits_is_told_once(good, tmp_path):
    shutil.copy(good[4].images[0], tmp_path / "copy.png")
    turns = [[{"role": "user", "text": f"{i}?"}, {"role": "assistant", "text": "Yes."}] for i in range(3)]
    leaks = [
        change(good[9], id=f"x/{i}", images=[str(tmp_path / "copy.png")], turns=turns[i], boxes=[]) for i in range(3)
    ]
    finding = single(lint([*good, *leaks]))
    assert (finding.code, finding.severity, finding.sample) == ("split-leak", "error", "x/0")
    assert "is in val, and in train as set/4" in finding.message


@pytest.mark.parametrize(
    ("roles", "wrong"),
    [
        (["assistant"], True),
        (["user", "user", "assistant"], True),
        (["user", "assistant", "assistant"], True),
        (["user", "system", "assistant"], True),
        (["user", "assistant"], False),
        (["system", "user", "assistant"], False),
        ([], False),
    ],
)
def test_turns_alternate_and_begin_with_the_user(good, roles, wrong):
    samples = plant(good, turns=[{"role": role, "text": f"{i}"} for i, role in enumerate(roles)])
    if wrong:
        assert_planted(samples, "role-order", f"turns are {', '.join(roles)}; expected user and assistant in turn")
    else:
        assert lint(samples) == []


@pytest.mark.parametrize("text", ["", " \n"])
def test_empty_answers(good, text):
    turns = [*good[4].turns[:4], {"role": "assistant", "text": text}]
    assert_planted(plant(good, turns=turns), "empty-answer", "turn 5 of 5, the assistant's, is empty")


@pytest.mark.parametrize(
    ("question", "answer", "message"),
    [
        ("<image> <image> Same?", "No.", "2 <image> for 1 images"),
        ("Where?", "<image> There.", "1 <image> outside the user's turns"),
        ("Same?", "No.", None),
    ],
)
def test_as_many_placeholders_as_images_or_none(good, question, answer, message):
    samples = plant(good, turns=[{"role": "user", "text": question}, {"role": "assistant", "text": answer}])
    if message:
        assert_planted(samples, "placeholders", message)
    else:
        assert lint(samples) == []


def test_an_image_that_no_placeholder_stands_for(good):
    samples = plant(good, images=[*good[4].images, *good[5].images])
    assert_planted(samples, "placeholders", "1 <image> for 2 images")


def test_a_missing_image_is_told_once_for_all_its_samples(good, tmp_path):
    missing = {"images": [str(tmp_path / "gone.png")], "boxes": []}
    samples = plant(good, **missing)
    samples.append(change(good[5], id="set/99", turns=[], **missing))
    assert_planted(samples, "missing-image", "gone.png does not exist")


def damage(path: Path, kind: str) -> None:
    content = bytearray(path.read_bytes())
    if kind == "cut":
        content = content[: len(content) * 2 // 3]
    elif kind == "flip":
        content[len(content) // 2] ^= 0xFF
    else:
        content = bytearray(b"<html>404 Not Found</html>")
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        ("png", "cut"),
        ("png", "flip"),
        ("png", "html"),
        ("jpg", "cut"),
        ("jpg", "html"),
        ("webp", "cut"),
        ("tif", "cut"),
    ],
)
def test_a_damaged_image(good, write_image, suffix, kind):
    path = write_image(f"bad.{suffix}", 96, 64)
    samples = plant(good, images=[str(path)], boxes=[])
    assert lint(samples) == []
    damage(path, kind)
    assert_planted(samples, "broken-image", f"bad.{suffix}")


def test_a_line_that_is_no_sample_does_not_stop_the_rest(good, tmp_path):
    rows = [sample.model_dump() for sample in good]
    rows[2]["turns"][0]["role"] = "bot"
    rows[3]["turns"][2]["text"] = ""
    (tmp_path / "set.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    steps = []
    unreadable, empty = lint(open_dataset(tmp_path / "set.jsonl", "jsonl"), advance=lambda: steps.append(1))
    assert (unreadable.code, unreadable.sample) == ("unreadable", None)
    assert "set.jsonl:3: turns.0.role" in unreadable.message
    assert (empty.code, empty.sample) == ("empty-answer", "set/3")
    assert len(steps) == len(good)


@pytest.mark.parametrize(
    ("xyxy", "code", "message", "severity"),
    [
        (
            (40, 30, 20, 35),
            "box-reversed",
            "1 box of an image of 96 x 64, first 'ship' [40.0, 30.0, 20.0, 35.0]",
            "error",
        ),
        ((40, 30, 20, 10), "box-reversed", "fits as x, y, width, height", "error"),
        ((40, 30, 40, 35), "box-empty", "first 'ship' [40.0, 30.0, 40.0, 35.0].", "error"),
        ((0.1, 0.2, 0.6, 0.7), "box-empty", "fits as 0-1", "error"),
        ((40, 30, 99, 64), "box-outside", "first 'ship' [40.0, 30.0, 99.0, 64.0].", "warning"),
        ((-9, 30, 96, 64), "box-outside", "first 'ship' [-9.0, 30.0, 96.0, 64.0].", "error"),
        ((10, 20, 60, 90), "box-outside", "fits as y1, x1, y2, x2", "error"),
    ],
)
def test_a_single_wrong_box(good, xyxy, code, message, severity):
    boxes = [*good[4].boxes, Box(label="ship", xyxy=xyxy)]
    assert_planted(plant(good, boxes=boxes), code, message, severity)


def test_rounding_at_the_edge_is_no_finding(good):
    assert lint(plant(good, boxes=[Box(label="all", xyxy=(-1, -0.5, 97, 64.9))])) == []


def test_boxes_in_turns_are_checked_too(good):
    turns = [
        *good[4].turns[:4],
        {"role": "assistant", "text": "There.", "boxes": [{"label": "a", "xyxy": [9, 9, 9, 9]}]},
    ]
    assert_planted(plant(good, turns=turns), "box-empty", "first 'a'")


def miswrite(samples: list[Sample], convert: Callable[[np.ndarray, tuple[int, int]], np.ndarray]) -> list[Sample]:
    """Rewrite all boxes with `convert(boxes (N, 4), (width, height))`."""
    from PIL import Image

    def rewritten(boxes: list[Box], size: tuple[int, int]) -> list[dict]:
        values = convert(np.array([box.xyxy for box in boxes], np.float64).reshape(-1, 4), size)
        return [{"label": box.label, "xyxy": tuple(row)} for box, row in zip(boxes, values.tolist(), strict=True)]

    changed = []
    for sample in samples:
        with Image.open(sample.images[0]) as image:
            size = image.size
        turns = [turn.model_dump() | {"boxes": rewritten(turn.boxes, size)} for turn in sample.turns]
        changed.append(change(sample, boxes=rewritten(sample.boxes, size), turns=turns))
    return changed


MISTAKES = {
    "boxes-xywh": (lambda b, _: xyxy_to_xywh(b), "as x, y, width, height, 100% do"),
    "boxes-converted-twice": (lambda b, _: xywh_to_xyxy(b), "xyxy that was converted from x, y, width, height"),
    "boxes-swapped": (lambda b, _: b[:, [1, 0, 3, 2]], "as y1, x1, y2, x2, 100% do"),
    "boxes-scale 1": (lambda b, size: scale_boxes(b, size, (1, 1)), "they are 0-1, not pixels"),
    "boxes-scale 1000": (lambda b, size: scale_boxes(b, size, (1000, 1000)), "none leaves 0-1000"),
    "boxes-unfit": (lambda b, size: scale_boxes(b, (1, 1), (30, 30)), "were the images resized?"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_source_with_all_boxes_in_another_convention_is_told_once(good, mistake):
    convert, message = MISTAKES[mistake]
    finding = single(lint(miswrite(good, convert)))
    assert (finding.code, finding.severity, finding.sample) == (mistake.split()[0], "error", None)
    assert finding.message.startswith("set: ") and message in finding.message


def test_a_wrong_source_does_not_blame_the_right_one_beside_it(good):
    others = [change(sample, source="other", split=None, turns=[]) for sample in good]
    finding = single(lint([*good, *miswrite(others, MISTAKES["boxes-swapped"][0])]))
    assert finding.code == "boxes-swapped" and finding.message.startswith("other: ")


def test_scale_0_to_1_is_seen_without_looking_at_images(good):
    assert single(lint(miswrite(good, MISTAKES["boxes-scale 1"][0]), check_images=False)).code == "boxes-scale"


def test_without_images_no_file_is_touched(good):
    for sample in good:
        Path(sample.images[0]).unlink()
    assert lint(good, check_images=False) == []


@pytest.fixture(scope="module")
def vhr10(shared_data) -> list[Sample]:
    return list(open_dataset(shared_data / "vhr10"))


def test_real_boxes_are_clean(vhr10):
    assert lint(vhr10) == []


REAL_MISTAKES = MISTAKES | {
    "boxes-scale 100": (lambda b, size: scale_boxes(b, size, (100, 100)), "are within 0-100, however large"),
    "boxes-unfit": (lambda b, size: scale_boxes(b, (1, 1), (3, 3)), "the worst reaches 3.0 times its side"),
}


@pytest.mark.parametrize("mistake", REAL_MISTAKES)
@pytest.mark.parametrize("num_samples", [25, 587])
def test_real_boxes_in_another_convention_are_told_once(vhr10, mistake, num_samples):
    convert, message = REAL_MISTAKES[mistake]
    finding = single(lint(miswrite(vhr10[:: 587 // num_samples], convert)))
    assert finding.code == mistake.split()[0] and message in finding.message


def test_a_few_bad_boxes_do_not_accuse_a_real_source(vhr10):
    bad = miswrite(vhr10[::60], MISTAKES["boxes-xywh"][0])
    by_id = {sample.id: sample for sample in bad}
    findings = lint([by_id.get(sample.id, sample) for sample in vhr10])
    assert {finding.code for finding in findings} <= {"box-reversed", "box-empty"} and len(findings) >= len(bad) // 2
    assert {finding.sample for finding in findings} <= by_id.keys()


def test_uc_merced_is_clean_but_for_its_one_repeated_image(shared_data):
    findings = lint(open_dataset(shared_data / "ucmerced"))
    assert {finding.code for finding in findings} == {"duplicate"}
    assert all("/airplane02/" in str(finding.sample) and "/airplane01/" in finding.message for finding in findings)


@pytest.mark.parametrize("place", ["rsvqa/RSVQA-LR", "rsvqa/RSVQA-HR", "eurosat/test"])
def test_other_real_sets_are_clean(shared_data, place):
    assert lint(open_dataset(shared_data / place)) == []
