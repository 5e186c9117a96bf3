"""LHRS-Bot-Nova (arXiv:2411.09301): different tags from LHRS-Bot, boxes between `<bbox>` tags."""

from lhrs.inference.model_family import ModelFamily


class LhrsBotNova(ModelFamily):
    """The prompts of its evaluation, and its system text including a typo, as in training."""

    box_style = "nova"
    system_prompt = (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. If your don't know the answer to a question, please "
        "don't share false information."
    )
    ask_options_prompt = "[CONSIZE] {question} Choose from: {options}. Answer in a single word. Answer:"
    caption_prompt = "Describe the image in one sentence."
    scene_prompt = "[CLS] What is the category of this image?"
    classify_prompt = "[CLS] Choose the best categories describe the image from: {options}"
    ground_prompt = "[DET] Please output the coordinate of the following object: {expression}"
    short_prompt = "[CONSIZE] {question} Answer in a single word. Answer:"
    count_prompt = "[CONSIZE] How many {target} are there? Answer in a single word. Answer:"
