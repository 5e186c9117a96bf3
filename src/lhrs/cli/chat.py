"""`lhrs chat`: talk about an image, question after question."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lhrs.cli.ask import load_assistant, to_text
from lhrs.cli.console import print_error, print_info
from lhrs.cli.options import GSD, Composite, Device, Model, Seed, Sensor, Temperature, with_model_options
from lhrs.errors import ConfigError, LHRSError

if TYPE_CHECKING:
    from lhrs.inference.assistant import Assistant, Chat
    from lhrs.inference.options import ModelOptions

_HELP = "/image PATH: another image.  /save FILE: the conversation as JSON lines.  /help.  /quit"


@with_model_options
def chat(
    image: Annotated[Path | None, typer.Argument(help="Image to talk about; /image opens another.")] = None,
    model: Model = None,
    device: Device = None,
    sensor: Sensor = None,
    composite: Composite = None,
    gsd: GSD = None,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
    *,
    model_options: "ModelOptions",
) -> None:
    """Talk about an image. Type a question, or /image PATH, /save FILE, /help, /quit."""
    assistant = load_assistant(model, device, temperature, seed, sensor, composite, gsd, model_options)
    talk = _start(assistant, image)
    if sys.stdin.isatty():
        import readline  # noqa: F401 (arrow keys and history in input())

        print_info(_HELP)
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if line in {"/quit", "/exit"}:
            return
        try:
            talk = _do(line, talk, assistant)
        except LHRSError as error:
            print_error(error)  # a slip does not end a conversation


def _do(line: str, talk: "Chat", assistant: "Assistant") -> "Chat":
    """Run one line."""
    command, _, rest = line.partition(" ")
    if not line:
        return talk
    if command == "/help":
        print_info(_HELP)
    elif command == "/image":
        return _start(assistant, _path(rest, "/image PATH"))
    elif command == "/save":
        from lhrs.atomic_io import write_atomic

        path = _path(rest, "/save FILE")
        write_atomic(path, "".join(answer.model_dump_json() + "\n" for answer in talk.answers))
        print_info(f"{path}: {len(talk.answers)} answers")
    elif command.startswith("/"):
        raise ConfigError(f"there is no command {command}. {_HELP}")
    else:
        _speak(talk, line)
    return talk


def _speak(talk: "Chat", question: str) -> None:
    """Print the answer as it comes, up to the first tag; boxes are printed when all are there, in pixels."""
    shown = raw = ""

    def show(piece: str) -> None:
        nonlocal shown, raw
        raw += piece
        ready = raw.partition("<")[0]
        print(ready[len(shown) :], end="", flush=True)
        shown = ready

    answer = talk.ask(question, show)
    if answer.boxes or shown != raw:
        print(("\n" if shown else "") + to_text(answer, with_name=False), flush=True)
    else:
        print(flush=True)
    if answer.out_of_distribution and len(talk.answers) == 1:
        print_info("  This image is unlike everything the model was trained on: do not rely on the answers.")


def _start(assistant: "Assistant", path: Path | None) -> "Chat":
    if path is None:
        return assistant.chat(None, "")
    from lhrs.inference.images import open_input

    name, opened = open_input(path, assistant.rendering)
    print_info(f"{path}: bands {','.join(map(str, opened.rendering.bands))}, {opened.rendering.scaling}")
    return assistant.chat(opened, name)


def _path(text: str, usage: str) -> Path:
    if not text.strip():
        raise ConfigError(f"usage: {usage}")
    return Path(text.strip()).expanduser()
