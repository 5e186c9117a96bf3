"""Prompts from chat templates, by the engine of transformers' templates and without transformers."""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any, NoReturn

from lhrs.errors import CheckpointError
from lhrs.inference.model_family import ModelFamily
from lhrs.inference.runtime import Request

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


def special_pattern(tokens: Iterable[str]) -> re.Pattern[str]:
    """Return the pattern of special tokens, which users must not write into prompts."""
    return re.compile("|".join(map(re.escape, sorted({*tokens, IMAGE_TOKEN}, key=len, reverse=True))))


def conversation(request: Request, family: ModelFamily, special: re.Pattern[str]) -> list[dict[str, Any]]:
    """Return the messages of a request, without special tokens; its images belong to the first question."""
    system = family.system_prompt
    turns = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    history = request.history if family.reads_conversations else ()
    for n, (question, answer) in enumerate([*history, (request.question, "")]):
        content = [{"type": "text", "text": special.sub(" ", question)}]
        if n == 0:
            content = [*({"type": "image"} for _ in request.images), *content]
        turns += [{"role": "user", "content": content}]
        if answer:
            turns += [{"role": "assistant", "content": [{"type": "text", "text": special.sub(" ", answer)}]}]
    return turns
