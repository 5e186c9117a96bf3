import json

import pytest
from pydantic import ValidationError

from lhrs.config import validation_message
from lhrs.schema import Answer, Box, Sample

GOOD = {
    "id": "set/1",
    "images": ["a.png"],
    "turns": [
        {"role": "user", "text": "Where is the ship?"},
        {"role": "assistant", "text": "There.", "boxes": [{"label": "ship", "xyxy": [1, 2, 3, 4]}]},
    ],
    "source": "set",
    "license": "CC0-1.0",
}


def refusal(values: dict) -> str:
    with pytest.raises(ValidationError) as caught:
        Sample.model_validate(values)
    message = validation_message(caught.value, Sample, values)
    assert "\n" not in message
    return message


def test_a_sample_survives_json():
    sample = Sample.model_validate(GOOD)
    assert sample.turns[1].boxes == [Box(label="ship", xyxy=(1, 2, 3, 4))]
    assert Sample.model_validate_json(sample.model_dump_json()) == sample


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"license": " "}, "license: String should have at least 1 character"),
        ({"licence": "MIT"}, "unknown key 'licence' in the top level. Did you mean 'license'?"),
        ({"turns": [{"role": "bot", "text": ""}]}, "turns.0.role: Input should be 'user', 'assistant' or 'system'"),
        ({"boxes": [{"label": "a", "xyxy": [1, 2, 3]}]}, "boxes.0.xyxy.3 is missing."),
        ({"boxes": [{"label": "a", "xyxy": [1, 2, 3, float("nan")]}]}, "boxes.0.xyxy.3: Input should be a finite"),
        (
            {"boxes": [{"label": "a", "xyxy": [1, 2, 3, 4], "confidence": 50}]},
            "boxes.0.confidence: Input should be less",
        ),
        ({"images": [], "turns": []}, "sample 'set/1' has neither images nor turns."),
    ],
)
def test_a_wrong_sample_is_refused_in_one_readable_line(change, expected):
    assert expected in refusal(GOOD | change)


def test_boxes_with_mistakes_can_be_read_for_lint_to_name_them():
    assert Box(label="x", xyxy=(30, 20, 10, -5)).xyxy == (30, 20, 10, -5)


def test_records_do_not_change():
    with pytest.raises(ValidationError):
        Sample.model_validate(GOOD).split = "test"


def test_an_answer_prints_the_keys_that_scripts_rely_on():
    answer = Answer(
        image="a.tif", question="How many ships?", answer="1", confidence=0.75, model="lhrs-nano",
        out_of_distribution=False,
        rendering={"bands": [3, 2, 1], "scaling": "uint8 as is", "size": (320, 240), "image_size": (640, 480)},
        boxes=[{"label": "ship", "xyxy": (1, 2, 3, 4), "lonlat": [(7.5, 43.7), (7.6, 43.7), (7.6, 43.6)]}],
    )  # fmt: skip
    assert json.loads(answer.model_dump_json()) == {
        "image": "a.tif",
        "question": "How many ships?",
        "answer": "1",
        "confidence": 0.75,
        "boxes": [
            {
                "label": "ship",
                "xyxy": [1, 2, 3, 4],
                "lonlat": [[7.5, 43.7], [7.6, 43.7], [7.6, 43.6]],
                "confidence": None,
            }
        ],
        "rendering": {"bands": [3, 2, 1], "scaling": "uint8 as is", "size": [320, 240], "image_size": [640, 480]},
        "model": "lhrs-nano",
        "out_of_distribution": False,
    }


@pytest.mark.parametrize("confidence", [-0.1, 1.1, float("nan")])
def test_a_confidence_is_between_0_and_1(confidence):
    with pytest.raises(ValidationError):
        Box(label="x", xyxy=(0, 0, 1, 1), confidence=confidence)
