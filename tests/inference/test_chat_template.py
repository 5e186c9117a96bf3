"""Chat templates without transformers, and prompts that need no template engine."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from lhrs.inference.chat import SINGLE_PROMPTS, ChatTemplate, read_template, write_single_prompts
from lhrs.inference.load import model_folder
from lhrs.inference.runtime import Request
from lhrs.inference.runtimes.onnx import OnnxRuntime

IMAGE = np.zeros((8, 8, 3), np.uint8)
REQUESTS = [
    Request((), "what is it?"),
    Request((IMAGE,), "  is there <answer> a river? "),
    Request((IMAGE, IMAGE), "{{ what }}\nchanged?"),
    Request((IMAGE, IMAGE, IMAGE), "more than are listed"),
    Request((IMAGE,), "and now?", history=(("before?", "yes"),)),
]


def test_the_embedded_model_has_the_prompts_of_its_template():
    folder = model_folder(None)
    assert json.loads((folder / SINGLE_PROMPTS).read_text()) == read_template(folder).single_prompts()


def test_prompts_are_the_same_with_and_without_the_template_engine(tmp_path):
    folder = tmp_path / "lhrs-nano"
    shutil.copytree(model_folder(None), folder)
    quick = [OnnxRuntime(folder).prompt(request) for request in REQUESTS]
    (folder / SINGLE_PROMPTS).unlink()
    assert [OnnxRuntime(folder).prompt(request) for request in REQUESTS] == quick
    write_single_prompts(folder)
    assert [OnnxRuntime(folder).prompt(request) for request in REQUESTS] == quick


@pytest.mark.parametrize("change", ["trim", "upper", "escape"])
def test_a_template_that_changes_questions_has_none(change):
    source = "{% for m in messages %}{{ m.content[-1].text | " + change + " }}{% endfor %}:"
    assert ChatTemplate(source, {}).single_prompts() == {}
    plain = ChatTemplate(source.replace(f" | {change}", ""), {}).single_prompts()
    assert plain == {"0": ["", ":"], "1": ["", ":"], "2": ["", ":"]}


def test_a_question_to_the_embedded_model_imports_no_template_engine():
    code = (
        "import sys, numpy, lhrs; lhrs.load().ask(numpy.zeros((64, 64, 3), numpy.uint8), 'what is it?'); "
        "sys.exit('jinja2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
