"""Adapters: prompts that are complete, and boxes that survive being written and read."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhrs.inference.model_family import ModelFamily, family_for, get_family
from lhrs.inference.runtimes.openai import _family_by_name
from lhrs.registry import load_components

FAMILIES = {"plain": ModelFamily, **load_components("lhrs.inference.families", ModelFamily)}
SEEN = (784, 560)
STEP = {"paligemma": 1 / 1024, "qwen2_5_vl": 1 / 560}
EDGE = st.integers(0, 1000)


@pytest.mark.parametrize("name", FAMILIES)
@given(st.lists(st.tuples(EDGE, EDGE, EDGE, EDGE), max_size=4))
def test_boxes_survive_being_written_and_read(name, edges):
    boxes = [[min(a, c) / 1000, min(b, d) / 1000, max(a, c) / 1000, max(b, d) / 1000] for a, b, c, d in edges]
    family = FAMILIES[name]()
    found = family.read_boxes(f"here: {family.write_boxes(boxes, SEEN)}.", SEEN)
    assert found.num_malformed == 0
    np.testing.assert_allclose(found.boxes, np.reshape(boxes, (-1, 4)), atol=STEP.get(name, 1 / 1000) / 2 + 1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_prompts_hold_what_they_are_given(name):
    family = FAMILIES[name]
    for prompt, slots in (
        (family.ask_prompt, {"question"}), (family.ask_options_prompt, {"question", "options"}),
        (family.caption_prompt, set()),
        (family.scene_prompt, set()), (family.classify_prompt, {"options"}), (family.ground_prompt, {"expression"}),
        (family.count_prompt, {"target"}),
    ):  # fmt: skip
        assert {s for s in ("question", "options", "expression", "target") if "{" + s + "}" in prompt} == slots


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("[0.25, 0.5, 0.75, 1.0]", "lhrs_bot", [[0.25, 0.5, 0.75, 1]]),
        ("<bbox>[0.25,0.5,0.75,1]</bbox>", "lhrs_bot_nova", [[0.25, 0.5, 0.75, 1]]),
        ('```json\n[{"bbox_2d": [196, 280, 588, 560], "label": "a [big] ship"}]\n```', "qwen2_5_vl",
         [[0.25, 0.5, 0.75, 1]]),
        ('[{"bbox_2d": [250, 500, 750, 1000]}, {"bbox_2d": [9, 9', "qwen3_vl", [[0.25, 0.5, 0.75, 1]]),
        ("<|object_ref_start|>ship<|object_ref_end|><|box_start|>(250,500),(750,1000)<|box_end|>", "qwen2_vl",
         [[0.25, 0.5, 0.75, 1]]),
        ("<ref>ship</ref><box>[[250, 500, 750, 1000]]</box>", "internvl", [[0.25, 0.5, 0.75, 1]]),
        ("<loc0512><loc0256><loc1023><loc0768> ship", "paligemma", [[0.25, 0.5, 0.75, 1]]),
        ('```json\n[\n  {"box_2d": [500, 250, 1000, 750], "label": "ship [2]"}\n]```', "gemma", [[0.25, 0.5, 0.75, 1]]),
        ("<think>Or [1, 2, 3, 4].</think><answer>Here: <|begin_of_box|>[[250,500,750,1000]]<|end_of_box|></answer>",
         "glm", [[0.25, 0.5, 0.75, 1]]),
        ('[{"bbox_2d": [250, 500, 750, 1000], "label": "ship"}]', "glm", [[0.25, 0.5, 0.75, 1]]),
        ('[{"label": "ship", "bbox": [0.25, 0.5, 0.75, 1.0]}]', "lfm2", [[0.25, 0.5, 0.75, 1]]),
        ("<ref>ship</ref><box>250 500 750 1000</box>", "minicpm_v", [[0.25, 0.5, 0.75, 1]]),
        ('<points coords="1 1 250 500 2 750 1000">ship</points>', "molmo", [[0.25, 0.5, 0.75, 1]]),
        ('<points x1="25.0" y1="50.0" x2="75.0" y2="100.0" alt="ship">ship</points>', "molmo", [[0.25, 0.5, 0.75, 1]]),
        ("</s><s>the ship<loc_250><loc_500><loc_750><loc_999></s>", "florence2", [[0.25, 0.5, 0.75, 1]]),
        ("no ship", "qwen2_5_vl", []),
    ],
)  # fmt: skip
def test_the_forms_of_other_models_are_read(text, name, expected):
    found = get_family(name).read_boxes(text, SEEN).boxes
    np.testing.assert_allclose(found, np.reshape(expected, (-1, 4)), atol=1e-3)


def test_wrong_boxes_are_counted_not_given():
    text = '[{"bbox_2d": [588, 280, 196, 560]}, {"bbox_2d": [0, 0, 5000, 10]}, {"bbox_2d": [1, 2, 3]}]'
    found = get_family("qwen2_5_vl").read_boxes(text, SEEN)
    assert len(found.boxes) == 0 and found.num_malformed == 3


def test_a_single_point_is_no_box():
    found = get_family("molmo").read_boxes('<points coords="1 1 250 500 2 750 900 3 100 100">ship</points>', SEEN)
    assert len(found.boxes) == 1 and found.num_malformed == 1


def test_each_model_type_has_one_adapter_and_unknown_ones_the_plain():
    claimed = [t for family in FAMILIES.values() for t in family.__dict__.get("model_types", ())]
    assert len(claimed) == len(set(claimed))
    assert type(family_for("qwen2_vl")) is FAMILIES["qwen2_vl"] and type(family_for("smolvlm")) is ModelFamily


@pytest.mark.parametrize(
    ("served", "family"),
    [
        ("Qwen/Qwen3-VL-8B-Instruct", "qwen3_vl"), ("OpenGVLab/InternVL3-8B-Instruct", "internvl"),
        ("google/gemma-4-e4b-it", "gemma"), ("google/paligemma2-3b-mix-448", "paligemma"), ("zai-org/GLM-4.5V", "glm"),
        ("LiquidAI/LFM2.5-VL-1.6B", "lfm2"), ("openbmb/MiniCPM-V-4_5", "minicpm_v"), ("allenai/Molmo2-8B", "molmo"),
        ("HuggingFaceTB/SmolVLM-Instruct", None), ("a-perception-model", None),
    ],
)  # fmt: skip
def test_the_family_of_a_served_model_is_in_its_name(served, family):
    expected = ModelFamily if family is None else FAMILIES[family]
    assert type(_family_by_name(served)) is expected


def test_system_texts_are_those_the_released_models_were_trained_with():
    digest = lambda text: hashlib.sha256(text.encode()).hexdigest()  # noqa: E731
    assert digest(get_family("lhrs_bot").system_prompt) == (
        "790f4cfc05523b0eecbc061d3b2a427d84204164119832ccffb22deaae07cb29"
    )
    # recorded with the header before it
    header = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
    assert digest(header + get_family("lhrs_bot_nova").system_prompt) == (
        "18274b6704ca335ca9aeb885bc3977c2ca45c6269c11d57323a9345038097a33"
    )
