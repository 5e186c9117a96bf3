"""Options of models: obeyed where a model can, refused in one line where it cannot."""

import numpy as np
import pytest
from tests.cli.conftest import run
from tests.embedded import EXAMPLES
from tests.evaluation.square_server import image_of, pixels_of, serving

from lhrs.errors import ConfigError
from lhrs.inference.load import load, model_hash
from lhrs.inference.options import ModelOptions
from lhrs.inference.tasks import Task

EVERY = {
    "max_new_tokens": 5, "system": "Be brief.", "dtype": "float16", "quantize": "8bit", "revision": "main",
    "image_size": 64, "max_pixels": 1000, "family": "qwen3_vl",
}  # fmt: skip
WIDE = np.zeros((60, 120, 3), np.uint8)


@pytest.mark.parametrize("name", EVERY)
def test_the_embedded_model_refuses_every_option(name):
    with pytest.raises(ConfigError, match="the embedded model does not take --" + name.replace("_", "-")):
        load(options=ModelOptions(**{name: EVERY[name]}))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"dtype": "int3"}, "--dtype is one of"), ({"quantize": "2bit"}, "--quantize is one of"),
     ({"max_pixels": 0}, "--max-pixels is 0"), ({"max_new_tokens": -1}, "--max-new-tokens is -1")],
)  # fmt: skip
def test_wrong_values_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        ModelOptions(**wrong)


@pytest.mark.parametrize(
    ("options", "size_wh"),
    [({}, (120, 60)), ({"image_size": 200}, (120, 60)), ({"image_size": 60}, (60, 30)),
     ({"max_pixels": 1800}, (60, 30)), ({"image_size": 60, "max_pixels": 200}, (20, 10)), ({"image_size": 1}, (1, 1))],
)  # fmt: skip
def test_images_are_reduced(options, size_wh):
    reduced = ModelOptions(**options).reduce(WIDE)
    assert (reduced.shape[1], reduced.shape[0]) == size_wh and reduced.dtype == np.uint8


def test_a_command_refuses_in_one_line():
    done = run("ask", EXAMPLES / "river.tif", "Is there a river?", "--dtype", "float16", "--image-size", 64, code=2)
    assert done.stderr == "lhrs: the embedded model does not take --dtype or --image-size.\n" and not done.stdout


def test_options_change_the_hash_of_a_model_and_are_arguments():
    options = ModelOptions(dtype="float16", image_size=64)
    assert model_hash("http://a/v1", "a") == model_hash("http://a/v1", "a", ModelOptions())
    assert model_hash("http://a/v1", "a") != model_hash("http://a/v1", "a", options)
    assert options.arguments == ["--dtype=float16", "--image-size=64"]


def test_a_server_obeys_what_it_can():
    pytest.importorskip("openai")
    with serving(lambda unit, size: "yes") as (url, bodies):
        options = ModelOptions(max_new_tokens=7, system="Be brief.", image_size=60)
        load(url, options=options).ask(np.full((60, 120, 3), (220, 20, 30), np.uint8), "Is the red square there?")
        with pytest.raises(ConfigError, match="a server does not take --dtype or --revision"):
            load(url, options=ModelOptions(dtype="float16", revision="main"))
    (body,) = bodies
    assert body["max_tokens"] == 7 and body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert pixels_of(image_of(body)).shape == (30, 60, 3)


def test_a_model_of_transformers_obeys_all(tmp_path):
    torch = pytest.importorskip("torch")
    from tests.inference.foreign import save

    folder = save("qwen2_5_vl", tmp_path)
    options = ModelOptions(dtype="bfloat16", system="Be brief.", max_pixels=3200, max_new_tokens=3, family="gemma")
    assistant = load(folder, "cpu", options)
    runtime = assistant.runtime
    assert runtime._model.dtype == torch.bfloat16 and runtime.family.system_prompt == "Be brief."
    request = assistant.request([WIDE], Task("?", "?"), 0)
    assert request.max_new_tokens == 3 and "Be brief." in runtime._text(request)
    assert runtime.generate([request])[0].resized_wh == (84, 28)  # 80 x 40 after the reduction
    with pytest.raises(ConfigError, match="--revision is for a model of the hub"):
        load(folder, "cpu", ModelOptions(revision="main"))
