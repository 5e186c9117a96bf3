"""Captions told anew: what the facts bear out becomes the caption, all else is kept beside it and marked."""

import json
import threading
import time

import pytest
from PIL import Image
from tests.align.world import World, write_scene
from tests.models.tiny import byte_tokenizer, llama
from transformers import LlamaForCausalLM

from lhrs.align.build import CaptionDatasetConfig, build_caption_dataset
from lhrs.align.claim_check import verify_claims
from lhrs.align.recaption import RecaptionConfig, facts_to_prompt, grade_caption, recaption
from lhrs.align.table import read_table, rows_to_facts
from lhrs.data.dataset import open_dataset
from lhrs.errors import ConfigError, DataError
from lhrs.inference.text_generation import load_text_generator


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder, world = tmp_path_factory.mktemp("built"), World()
    for n in range(40):
        world.box(-95 + 23 * (n % 8), -95 + 38 * (n // 8), 12, 12, building="yes")
    world.box(-100, -100, 120, 200, landuse="residential")
    scene = write_scene(folder / "s.tif", world, 200, 1.0)
    build_caption_dataset(
        CaptionDatasetConfig(osm=world.write(folder / "w.osm.pbf"), out=folder / "ds", imagery=(scene,), size=50)
    )
    return folder / "ds"


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_texts_are_accepted_flagged_or_rejected_by_their_claims(built, tmp_path):
    texts = iter(
        ["Some buildings stand here.", "Several buildings, and cars.", "An airport with ten airplanes.", "", "Blue."]
        * 9
    )
    manifest = recaption(
        RecaptionConfig(source=built, out=tmp_path / "ds", mode="recaption", model="m", flag_above=0.6),
        lambda p: [next(texts) for _ in p],
    )
    rows = read_table(tmp_path / "ds").to_pylist()
    assert {r["generated_text"]: r["status"] for r in rows} == {
        "Some buildings stand here.": "accepted", "Several buildings, and cars.": "flagged",
        "An airport with ten airplanes.": "rejected", "": "rejected", "Blue.": "rejected",
    }  # fmt: skip
    for row in rows:
        assert row["caption"] == (row["generated_text"] if row["status"] == "accepted" else row["osm_caption"])
        held = [c["verdict"] == "supported" for c in row["claims"]]
        assert row["unsupported_fraction"] == (pytest.approx(1 - sum(held) / len(held)) if held else 1.0)
    assert manifest["generated_text"]["accepted"] == sum(r["status"] == "accepted" for r in rows) > 0
    sample = open_dataset(tmp_path / "ds")[0]
    assert Image.open(sample.images[0]).size == (50, 50)


def test_recaptioned_data_can_be_recaptioned(built, tmp_path):
    recaption(
        RecaptionConfig(source=built, out=tmp_path / "once", mode="recaption", model="m"),
        lambda p: ["Some buildings stand here."] * len(p),
    )
    again = ("Some buildings can be seen.", "An airport.")
    answers = lambda p: [again[n % 2] for n in range(len(p))]  # noqa: E731
    recaption(RecaptionConfig(source=tmp_path / "once", out=tmp_path / "twice", mode="rewrite", model="m"), answers)
    once, twice = (read_table(tmp_path / name) for name in ("once", "twice"))
    assert twice.column_names == once.column_names
    assert twice["osm_caption"] == once["osm_caption"] == read_table(built)["caption"]
    assert {(r["status"], r["generated_text"], r["caption"]) for r in twice.to_pylist()} == {
        ("accepted", again[0], again[0]), ("rejected", again[1], "Some buildings stand here.")}  # fmt: skip
    assert Image.open(open_dataset(tmp_path / "twice")[0].images[0]).size == (50, 50)


def test_models_get_the_image_and_the_facts(built, tmp_path):
    seen = []
    recaption(
        RecaptionConfig(source=built, out=tmp_path / "a", mode="recaption", model="m", batch_size=5),
        lambda p: seen.extend(p) or ["x"] * len(p),
    )
    assert seen[0][0].shape == (50, 50, 3) and "buildings" in seen[0][1]
    seen.clear()
    prompt = "{facts} // {caption}"
    recaption(
        RecaptionConfig(source=built, out=tmp_path / "b", mode="rewrite", model="m", prompt=prompt),
        lambda p: seen.extend(p) or ["x"] * len(p),
    )
    row = read_table(built).to_pylist()[0]
    assert seen[0] == (None, f"{facts_to_prompt(rows_to_facts(row['facts']))} // {row['caption']}")


def test_a_stopped_run_asks_only_for_what_is_missing(built, tmp_path):
    asked = []

    def write(prompts, fail_after=10**6):
        if len(asked) >= fail_after:
            raise KeyboardInterrupt
        asked.extend(prompts)
        return ["Some buildings."] * len(prompts)

    job = RecaptionConfig(source=built, out=tmp_path / "ds", mode="rewrite", model="m", batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        recaption(job, lambda p: write(p, 8))
    assert len(asked) == 8 and not (tmp_path / "ds/index.parquet").exists()
    recaption(job, write)
    assert len(asked) == len(read_table(built))
    recaption(RecaptionConfig(source=built, out=tmp_path / "once", mode="rewrite", model="m", batch_size=4), write)
    assert content(tmp_path / "ds") == content(tmp_path / "once")


def test_lhrs_nano_describes_and_is_checked(built, tmp_path):
    write = load_text_generator("lhrs-nano")
    recaption(
        RecaptionConfig(
            source=built, out=tmp_path / "ds", mode="recaption", model="lhrs-nano", prompt="Describe the image."
        ),
        write,
    )
    for row in read_table(tmp_path / "ds").to_pylist():
        assert row["generated_text"]
        status, share, claims = grade_caption(row["generated_text"], rows_to_facts(row["facts"]), 0.0, 0.34)
        assert (status, share, len(claims)) == (row["status"], row["unsupported_fraction"], len(row["claims"]))


def test_a_language_model_of_transformers_rewrites(built, tmp_path):
    tokenizer = byte_tokenizer([])
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}>"
    tokenizer.save_pretrained(tmp_path / "llm")
    LlamaForCausalLM(llama(len(tokenizer), max_position_embeddings=2048)).save_pretrained(tmp_path / "llm")
    write = load_text_generator(str(tmp_path / "llm"), max_new_tokens=8)
    prompts = [(None, "Rewrite: a"), (None, "Rewrite: a longer one"), (None, "b")]
    assert write(prompts) == [write([p])[0] for p in prompts]
    with pytest.raises(ConfigError, match="cannot read images"):
        recaption(RecaptionConfig(source=built, out=tmp_path / "x", mode="recaption", model="llm"), write)
    manifest = recaption(RecaptionConfig(source=built, out=tmp_path / "ds", mode="rewrite", model="llm"), write)
    assert manifest["generated_text"]["accepted"] == 0
    assert read_table(tmp_path / "ds")["caption"].to_pylist() == read_table(built)["caption"].to_pylist()


def test_a_server_rewrites(built, tmp_path):
    fastapi, uvicorn = pytest.importorskip("fastapi"), pytest.importorskip("uvicorn")
    pytest.importorskip("openai")
    app, seen = fastapi.FastAPI(), []

    @app.get("/v1/models")
    def models() -> dict:
        return {"object": "list", "data": [{"id": "echo", "object": "model", "created": 0, "owned_by": "us"}]}

    @app.post("/v1/chat/completions")
    def complete(body: dict) -> dict:
        content = body["messages"][-1]["content"]
        text = content if isinstance(content, str) else next(c["text"] for c in content if c["type"] == "text")
        seen.append(text)
        said = text.partition("Description: ")[2].partition("\n")[0].replace("can be seen", "are visible")
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
        return {"id": "1", "created": 0, "model": "echo", "object": "chat.completion", "choices": [choice]}

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.02)
    try:
        write = load_text_generator(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1")
        manifest = recaption(RecaptionConfig(source=built, out=tmp_path / "ds", mode="rewrite", model="echo"), write)
    finally:
        server.should_exit = True
    rows = read_table(tmp_path / "ds").to_pylist()
    assert len(seen) == len(rows) == manifest["generated_text"]["accepted"]
    assert all(
        not [c for c in verify_claims(r["caption"], rows_to_facts(r["facts"])) if c.verdict != "supported"]
        for r in rows
    )


def test_wrong_inputs_are_one_line(built, tmp_path):
    with pytest.raises(DataError, match="is no alignment data set"):
        recaption(RecaptionConfig(source=tmp_path, out=tmp_path / "o", mode="rewrite", model="m"), list)
    with pytest.raises(ConfigError, match="exists already"):
        recaption(RecaptionConfig(source=built, out=built, mode="rewrite", model="m"), list)
    with pytest.raises(DataError, match="m answered 0 of"):
        recaption(RecaptionConfig(source=built, out=tmp_path / "p", mode="rewrite", model="m"), lambda prompts: [])
    assert "generated_text" not in json.loads((built / "manifest.json").read_bytes())
