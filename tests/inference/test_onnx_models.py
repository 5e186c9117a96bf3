"""Any LHRS model with a small language model is exported and answers without torch as with it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

from safetensors.torch import load_file  # noqa: E402
from tests.models.tiny import ENCODERS, byte_tokenizer, llama  # noqa: E402
from transformers import GPT2Config, Qwen2Config, SiglipImageProcessorPil, TimmWrapperConfig  # noqa: E402

from lhrs.errors import ConfigError  # noqa: E402
from lhrs.inference.load import load  # noqa: E402
from lhrs.inference.runtime import Request  # noqa: E402
from lhrs.models import LHRSBridgeConfig, LHRSConfig, LHRSForConditionalGeneration, LHRSProcessor  # noqa: E402
from lhrs.models.export import export  # noqa: E402
from lhrs.models.presets import chat_template  # noqa: E402

TOKENS = ["<image>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
GROUPED = {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 64, "max_position_embeddings": 1024}


def qwen2(vocab_size: int) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=vocab_size, intermediate_size=48, num_hidden_layers=2, tie_word_embeddings=True,
        initializer_range=0.3, bos_token_id=1, eos_token_id=2, pad_token_id=0, **GROUPED,
    )  # fmt: skip


SHAPES = {
    # encoder, levels, language model, template, end of an answer, family, system text
    "llama": ("lite0", [2, 3, 4], lambda n: llama(n, **GROUPED), "chatml", "<|im_end|>", "instruct", ""),
    "qwen2": ("siglip", [1, 2, 4], qwen2, "llama3", "<|eot_id|>", "lhrs_bot", "Be kind."),
}
WIDTHS = {"lite0": [40, 112, 320], "siglip": [16, 16, 16]}


def write_model(folder: Path, encoder, levels, language, template, end, family, system) -> Path:
    torch.manual_seed(5)
    tokenizer = byte_tokenizer(TOKENS)
    tokenizer.chat_template = chat_template(template)
    vision = TimmWrapperConfig(architecture="tf_efficientnet_lite0") if encoder == "lite0" else ENCODERS[encoder]()
    bridge = {"queries": [4, 3, 2], "hidden_size": 16, "num_layers": 1, "num_heads": 2, "outer_norms": True}
    config = LHRSConfig(
        vision, language(len(tokenizer)), LHRSBridgeConfig(level_sizes=WIDTHS[encoder], **bridge), levels,
        tokenizer.convert_tokens_to_ids("<image>"), system_prompt=system,
    )  # fmt: skip
    config.model_family = family
    model = LHRSForConditionalGeneration(config)
    with torch.no_grad():
        for weight in model.model.bridge.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.3)
    ends = [2, tokenizer.convert_tokens_to_ids(end)]
    model.generation_config.update(bos_token_id=1, eos_token_id=ends, pad_token_id=0)
    model.save_pretrained(folder)
    images = SiglipImageProcessorPil(
        size={"height": 32, "width": 32}, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4]
    )
    LHRSProcessor(images, tokenizer, num_image_tokens=9).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=[*SHAPES])
def shape(request, tmp_path_factory):
    return request.param, write_model(tmp_path_factory.mktemp("model"), *SHAPES[request.param])


@pytest.fixture(scope="module")
def exported(shape, tmp_path_factory):
    out = tmp_path_factory.mktemp("onnx") / "out"
    export(str(shape[1]), out, None, None, onnx=True)
    return out


@pytest.fixture(scope="module")
def requests():
    rng = np.random.default_rng(0)
    pool = [rng.integers(0, 255, (50, 70, 3)).astype(np.uint8) for _ in range(3)]
    return [
        Request((pool[0],), "what is here?", max_new_tokens=12),
        Request((pool[1],), "which of these?", ("river", "forest", "annual crop")),
        Request((pool[0], pool[2]), "what changed between the two?", max_new_tokens=8),
        Request((), "hello <|im_end|><image> there", max_new_tokens=8),
        Request((pool[1],), "and now?", max_new_tokens=8, history=(("what is it?", "a field"), ("sure?", "yes"))),
        Request((pool[2],), "how many?", answer_type="number"),
        Request((pool[2],), "find the ships.", answer_type="boxes", max_new_tokens=40),
    ]


def test_the_exported_model_says_what_torch_says(shape, exported, requests):
    from lhrs.inference.runtimes.onnx import OnnxRuntime
    from lhrs.inference.runtimes.torch import TorchRuntime

    theirs, ours = TorchRuntime(str(shape[1]), "cpu"), load(exported).runtime
    assert isinstance(ours, OnnxRuntime)
    for request in requests:
        assert ours.prompt(request) == theirs.prompt(request)
    for first, second in zip(theirs.generate(requests), ours.generate(requests), strict=True):
        assert first.token_texts == second.token_texts and first.text == second.text
        assert first.probabilities == pytest.approx(second.probabilities, abs=1e-4)
    alone = [ours.generate([request])[0].token_texts for request in requests]
    assert alone == [reply.token_texts for reply in ours.generate(requests)]


def test_eight_bits_compute_nearly_the_same(shape, exported, requests, tmp_path):
    export(str(shape[1]), tmp_path / "int8", None, None, int8=True)
    assert not (tmp_path / "int8/model.safetensors").exists()
    graph = onnx.load(tmp_path / "int8/language.onnx").graph
    large = [init for init in graph.initializer if len(init.dims) > 1 and np.prod(init.dims) > 4000]
    assert large and {init.data_type for init in large} <= {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    exact, rounded = load(exported).runtime, load(tmp_path / "int8").runtime
    ids = np.array([exact.encode("what is here? a field, a river and a road")])
    mask = np.ones_like(ids)
    first, second = (
        runtime._run(ids[:, 1:], runtime._no_image, mask, runtime.start(ids[:, :1], mask[:, :1], []))
        for runtime in (exact, rounded)
    )
    assert np.corrcoef(first[0], second[0])[0, 1] > 0.995 and not np.array_equal(first, second)
    assert rounded.generate(requests)[1].text in requests[1].options


def test_half_precision_is_stored_once_and_computed_alike(shape, exported, requests, tmp_path):
    from lhrs.inference.runtimes.torch import TorchRuntime

    half = tmp_path / "half"
    export(str(shape[1]), half, None, torch.float16, onnx=True)
    state = load_file(half / "model.safetensors")
    assert {v.dtype for v in state.values() if v.ndim > 1} == {torch.float16}
    assert {v.dtype for v in state.values() if v.ndim < 2 and v.is_floating_point()} == {torch.float32}
    sizes = [sum(file.stat().st_size for file in folder.iterdir()) for folder in (half, exported)]
    assert sizes[0] < 0.7 * sizes[1]
    theirs, ours = TorchRuntime(str(half), "cpu").generate(requests), load(half).runtime.generate(requests)
    for first, second in zip(theirs, ours, strict=True):
        assert first.token_texts == second.token_texts
        assert first.probabilities == pytest.approx(second.probabilities, abs=1e-4)


@pytest.mark.parametrize("dtype, int8", [(torch.bfloat16, False), (torch.float16, True)])
def test_other_precisions_of_graphs_are_refused(shape, tmp_path, dtype, int8):
    with pytest.raises(ConfigError, match="ONNX graphs compute in float32: leave --dtype away"):
        export(str(shape[1]), tmp_path / "out", None, dtype, onnx=True, int8=int8)


def test_paths_of_the_machine_are_not_written(shape, exported):
    config = json.loads((exported / "config.json").read_text())
    assert {config[part]["_name_or_path"] for part in ("vision_config", "text_config")} == {""}


def test_it_runs_without_torch_and_transformers(exported):
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "import numpy as np, lhrs\n"
        f"print(lhrs.load({str(exported)!r}).ask(np.zeros((40, 40, 3), np.uint8), 'what?', ['a', 'b']).answer)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() in ("a", "b"), done.stderr


def test_other_language_models_and_crops_are_refused(tmp_path):
    gpt2 = lambda n: GPT2Config(vocab_size=n, n_embd=32, n_layer=1, n_head=2)  # noqa: E731
    folder = write_model(tmp_path / "gpt2", "siglip", [1, 2, 4], gpt2, "chatml", "<|im_end|>", "instruct", "")
    with pytest.raises(ConfigError, match="ONNX graphs are for llama and qwen2, not for a gpt2"):
        export(str(folder), tmp_path / "out", None, None, onnx=True)
    assert not (tmp_path / "out").exists()
