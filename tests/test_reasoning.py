import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhrs.reasoning import strip_reasoning


@pytest.mark.parametrize(
    "text",
    [
        "<think>The roof is gray.</think>\n\nyes",
        "<THINKING>no?</THINKING> yes",
        "<reasoning>\nfirst\nsecond\n</reasoning>yes",
        "<think>a</think><think>b</think>yes",
        "<think>a <think>b</think> c</think>yes",
        "The template opened the block.\n</think>\n\nyes",
        "[THINK]harbor or river[/THINK]yes",
        "◁think▷harbor or river◁/think▷yes",
        "<|channel|>analysis<|message|>Look.<|end|><|start|>assistant<|channel|>final<|message|>yes<|return|>",
        "analysisThe user wants one word.assistantfinalyes",
        "<think>a</think><answer>yes</answer>",
        "Some words first. <answer> yes </answer>",
        "<answer>no</answer> wait <answer>yes</answer>",
        "<answer>yes",
        "<think>a</think>\\boxed{yes}",
        "$\\boxed{\\text{yes}}$",
        "<|begin_of_thought|>a<|end_of_thought|><|begin_of_solution|>yes<|end_of_solution|>",
        *(f"yes{end}" for end in ("<|im_end|>", "<|eot_id|>", "</s>", "<|endoftext|>", "<end_of_turn>\n", "</s>\n")),
        "yes<|im_end|>\n<|im_start|>user\nand a road?",
        "<|im_start|>assistant\nyes<|im_end|>",
        "<s> yes</s>",
    ],
)
def test_the_answer_remains(text):
    assert strip_reasoning(text) == "yes"


@pytest.mark.parametrize(
    "text", ["<think>Let me look at", "<think>a</think>", "<|channel|>analysis<|message|>Look", ""]
)
def test_reasoning_alone_is_no_answer(text):
    assert strip_reasoning(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        " a river ",
        "I think <b>yes</b>",
        "[0.1, 0.2, 0.3, 0.4]",
        "<box>[[12, 30, 45, 60]]</box>",
        "<loc_1><loc_2><loc_3><loc_4>",
        '[{"bbox_2d": [1, 2, 3, 4], "label": "ship"}]',
        "<|box_start|>(1,2),(3,4)<|box_end|>",
        "<ref>ship</ref>\n",
        "analysis of land use",
        "3 < 4 and 5 > 2",
        "\\frac{1}{2}",
    ],
)
def test_other_text_is_unchanged(text):
    assert strip_reasoning(text) == text


@given(st.text(st.characters(exclude_characters="<[◁\\")).filter(lambda text: "assistantfinal" not in text))
def test_text_without_marks_is_unchanged(text):
    assert strip_reasoning(text) == text


@given(st.text(st.sampled_from("ab <>/[]|\\{}$\n◁▷1,.")))
def test_brackets_of_any_kind_are_unchanged(text):
    assert strip_reasoning(text) == text


@given(st.text(st.characters(exclude_characters="<[◁\\|")), st.text(st.sampled_from("yes no.,[]0123456789<>\n")))
def test_a_block_is_removed_whatever_it_holds(thoughts, answer):
    assert strip_reasoning(f"<think>{thoughts}</think>{answer}") == answer.strip()
