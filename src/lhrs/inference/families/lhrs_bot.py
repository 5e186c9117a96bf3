"""LHRS-Bot (arXiv:2402.02544): task tags before the question, boxes as fractions of the image."""

from lhrs.inference.model_family import ModelFamily


class LhrsBot(ModelFamily):
    """The prompts of its evaluation; the system text is LLaVA's for Llama 2."""

    box_style = "norm1"
    system_prompt = (
        "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
        "provides, and assist the user with a variety of tasks using natural language."
    )
    ask_options_prompt = "[VQA] {question} Choose from: {options}."
    caption_prompt = "Describe the image in one sentence."
    scene_prompt = "[CLS] What is the category of this image?"
    classify_prompt = "[CLS] Choose the best categories describe the image from: {options}"
    ground_prompt = "[VG] Please output the coordinate of the following object: {expression}"
    count_prompt = "[VQA] How many {target} are there?"
    short_prompt = "[VQA] {question}"
    choose_prompt = "{question}\nChoices: {options} Answer from the given choices with A., B., C., D., etc."
