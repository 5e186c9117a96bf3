"""Prompts from chat templates, by the engine of transformers' templates and without transformers."""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from lhrs.atomic_io import write_atomic
from lhrs.errors import CheckpointError
from lhrs.inference.model_family import ModelFamily
from lhrs.inference.runtime import Request

SINGLE_PROMPTS = "single_prompts.json"
"""File of an exported model with `ChatTemplate.single_prompts`."""
_MAX_IMAGES = 2
IMAGE_TOKEN = "<image>"
"""What a template writes for an image, see `lhrs.models.processing`."""


class ChatTemplate:
    """A Jinja chat template that renders prompts.

    Args:
        source: Jinja text.
        special_tokens: text of `bos_token`, `eos_token` and others that templates write.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        self.source, self.special_tokens = source, dict(special_tokens)

    def render(self, messages: list[dict[str, Any]]) -> str:
        """Return the prompt of a conversation, up to where the answer begins.

        Raises:
            CheckpointError: the template is invalid, or refuses the conversation.
        """
        from jinja2 import TemplateError

        try:
            return self._compiled.render(messages=messages, add_generation_prompt=True, **self.special_tokens)
        except TemplateError as error:
            raise CheckpointError(f"the model's chat template cannot be rendered: {error}") from error

    def single_prompts(self) -> dict[str, list[str]]:
        """Return the text before and after a question without a conversation, by the number of its images.

        With it, a first question needs no template engine, whose import takes a twentieth of a second. Empty if the
        template changes the question's text.
        """
        prompts = {}
        for count in range(_MAX_IMAGES + 1):
            texts = []
            for question in ("\x01", " \n{{ a }} <&> 'x' \x01 "):
                content = [*({"type": "image"} for _ in range(count)), {"type": "text", "text": question}]
                texts.append((question, self.render([{"role": "user", "content": content}])))
            before, _, after = texts[0][1].partition(texts[0][0])
            if any(text != before + question + after for question, text in texts):
                return {}
            prompts[str(count)] = [before, after]
        return prompts

    @cached_property
    def _compiled(self) -> Any:
        """The template in the environment that transformers renders templates in."""
        from jinja2 import TemplateError, nodes
        from jinja2.ext import Extension, loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        class Generation(Extension):
            """`{% generation %}`, which marks answers in training, has no effect on prompts."""

            tags = {"generation"}

            def parse(self, parser: Any) -> Any:
                line = next(parser.stream).lineno
                return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

        def raise_exception(message: str) -> NoReturn:
            raise TemplateError(message)

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
        )
        environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
        environment.globals["raise_exception"] = raise_exception
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        return environment.from_string(self.source)


def read_template(folder: Path) -> ChatTemplate:
    """Return the chat template of an exported model."""
    names = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokens = {name: value for name, value in names.items() if name.endswith("_token") and isinstance(value, str)}
    return ChatTemplate((folder / "chat_template.jinja").read_text(encoding="utf-8"), tokens)


def write_single_prompts(folder: Path) -> None:
    """Write `single_prompts.json` of an exported model; it only saves time."""
    write_atomic(folder / SINGLE_PROMPTS, json.dumps(read_template(folder).single_prompts()) + "\n")


def special_pattern(tokens: Iterable[str]) -> re.Pattern[str]:
    """Return the pattern of special tokens, which users must not write into prompts."""
    return re.compile("|".join(map(re.escape, sorted({*tokens, IMAGE_TOKEN}, key=len, reverse=True))))


def conversation(request: Request, family: ModelFamily, special: re.Pattern[str]) -> list[dict[str, Any]]:
    """Return the messages of a request, without special tokens; its images belong to the first question."""
    system = family.system_prompt
    turns = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    for n, (question, answer) in enumerate([*request.history, (request.question, "")]):
        content = [{"type": "text", "text": special.sub(" ", question)}]
        if n == 0:
            content = [*({"type": "image"} for _ in request.images), *content]
        turns += [{"role": "user", "content": content}]
        if answer:
            turns += [{"role": "assistant", "content": [{"type": "text", "text": special.sub(" ", answer)}]}]
    return turns
