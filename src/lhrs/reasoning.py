"""Take reasoning blocks, answer tags and end tokens off what a language model wrote."""

import re

_OPEN, _CLOSE = r"(?:<(?:{t})(?:\s[^<>]*)?>|\[(?:{t})\]|◁(?:{t})▷)", r"(?:</(?:{t})\s*>|\[/(?:{t})\]|◁/(?:{t})▷)"
_TAGS = "think|thinking|thought|reason|reasoning|analysis|reflection|scratchpad|seed:think"
_PAIRS = [
    (_OPEN.format(t=_TAGS), _CLOSE.format(t=_TAGS)),
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),  # OpenThinker
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),  # Command A
    (r"<unused94>thought", r"<unused95>"),  # MedGemma
    (r"<\|channel>thought", r"<channel\|>"),  # Gemma
]
_BLOCKS = [re.compile(f"{start}.*?{end}", re.S | re.I) for start, end in _PAIRS]
_UNCLOSED = [re.compile(rf"\s*{start}.*\Z", re.S | re.I) for start, _ in _PAIRS]
_UNOPENED = [re.compile(rf"\A.*{end}", re.S | re.I) for _, end in _PAIRS]

_CHANNELS = re.compile(r"\A.*<\|channel\|>\s*final\b[^<]*<\|message\|>", re.S)
_OTHER_CHANNEL = re.compile(r"\A\s*(?:<\|start\|>\s*assistant\s*)?<\|channel\|>.*\Z", re.S)
_BARE_CHANNELS = re.compile(r"\Aanalysis.*assistantfinal", re.S)
"""The channels of gpt-oss after a server removed the special tokens."""

_ANSWER = re.compile(r"<answer>(?!.*<answer>)(.*?)(?:</answer>.*)?\Z", re.S | re.I)
_SOLUTION = re.compile(r"<\|begin_of_(?:solution|box)\|>(.*?)(?:<\|end_of_(?:solution|box)\|>.*)?\Z", re.S)
_BOXED = re.compile(r"(\$?)\\boxed\{(?:\\text\{([^{}]*)\}|([^{}]*))\}\1")
_ROLE = re.compile(
    r"\A\s*(?:<s>|<bos>|<\|begin_of_text\|>|<\|im_start\|>\s*assistant\b|<start_of_turn>\s*model\b"
    r"|<\|start_header_id\|>\s*assistant\s*<\|end_header_id\|>)"
)
_END = re.compile(
    r"<\|(?:im_end|eot_id|eom_id|endoftext|end_of_text|eot|end|return|endofassistant|END_RESPONSE)\|>.*\Z"
    r"|<(?:end_of_turn|end_of_utterance|eos|｜end▁of▁sentence｜)>.*\Z"  # noqa: RUF001
    r"|</s>\s*\Z",
    re.S,
)
_MARKS = ("<", "[", "◁", "\\boxed", "assistantfinal")


def strip_reasoning(text: str) -> str:
    r"""Return the answer in a model's output: without reasoning, answer tags and end tokens.

    Blocks like `<think>...</think>` are removed, also where the opening tag is part of the prompt and only the closing
    one is written. A block that is never closed was cut off: it contains no answer, and the result is empty.
    `<answer>...</answer>` and `\boxed{...}` are replaced by their content. Text without any of these is returned
    unchanged.
    """
    if not any(mark in text for mark in _MARKS):
        return text
    answer = _without_reasoning(_END.sub("", _CHANNELS.sub("", _ROLE.sub("", text))))
    for wrapper in (_SOLUTION, _ANSWER):
        inner = wrapper.search(answer)
        answer = answer if inner is None else inner[1]
    answer = _BOXED.sub(lambda boxed: boxed[2] or boxed[3] or "", _END.sub("", answer))
    return text if answer == text else answer.strip()


def has_reasoning(text: str) -> bool:
    """Return whether a text contains a reasoning block, complete or cut off."""
    if not any(mark in text for mark in _MARKS):
        return False
    output = _ROLE.sub("", text)
    return _without_reasoning(_CHANNELS.sub("", output)) != output


def _without_reasoning(text: str) -> str:
    text = _BARE_CHANNELS.sub("", _OTHER_CHANNEL.sub("", text))
    for block in _BLOCKS:
        text = block.sub("", text)
    for unopened in _UNOPENED:
        text = unopened.sub("", text)
    for unclosed in _UNCLOSED:
        if unclosed.match(text):
            text = ""
    return text
