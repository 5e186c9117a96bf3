"""LHRS-Bot (arXiv:2402.02544): task tags before the question, boxes as shares of the image."""

from lhrs.inference.adapter import Adapter


class LhrsBot(Adapter):
    """The prompts of its evaluation; the system text is LLaVA's for Llama 2."""

    box_style = "unit"
    system_prompt = (
        "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
        "provides, and assist the user with a variety of tasks using natural language."
    )
    ask_options = "[VQA] {question} Choose from: {options}."
    caption = "Describe the image in one sentence."
    scene = "[CLS] What is the category of this image?"
    classify = "[CLS] Choose the best categories describe the image from: {options}"
    ground = "[VG] Please output the coordinate of the following object: {expression}"
    count = "[VQA] How many {thing} are there?"
    short = "[VQA] {question}"
    choose = "{question}\nChoices: {options} Answer from the given choices with A., B., C., D., etc."
