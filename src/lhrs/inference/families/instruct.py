"""Models that were trained on questions of `lhrs instruct build` alone: prompts in its words."""

from lhrs.inference.model_family import ModelFamily


class Instruct(ModelFamily):
    """The wording of the questions; boxes are fractions of the image."""

    in_model_names = False  # "Instruct" is a part of many names
    box_style = "norm1"
    ask_options_prompt = "{question} Options: {options}."
    caption_prompt = "Describe the image in one sentence."
    scene_prompt = "What kind of scene is this?"
    classify_prompt = "Which of these classes describes the image best: {options}?"
    ground_prompt = "Find {expression}."
    count_prompt = "How many {target} are there?"
    short_prompt = "{question}"
    choose_prompt = "{question}\n{options}\nAnswer with the letter."
