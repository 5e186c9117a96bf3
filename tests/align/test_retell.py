"""Captions told anew: what the facts bear out becomes the caption, all else is kept beside it and marked."""

import json
import threading
import time

import pytest
from PIL import Image
from tests.align.world import World, write_scene
from tests.models.tiny import byte_tokenizer, llama
from transformers import LlamaForCausalLM

from lhrs.align.build import Build, build
from lhrs.align.claims import check
from lhrs.align.records import facts_of, read_index
from lhrs.align.retell import Retell, in_words, judge, retell
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
    build(Build(world.write(folder / "w.osm.pbf"), folder / "ds", (scene,), size=50))
    return folder / "ds"


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_texts_are_kept_flagged_or_rejected_by_their_claims(built, tmp_path):
    texts = iter(
        ["Some buildings stand here.", "Several buildings, and cars.", "An airport with ten airplanes.", "", "Blue."]
        * 9
    )
    manifest = retell(Retell(built, tmp_path / "ds", "recaption", "m", flag=0.6), lambda p: [next(texts) for _ in p])
    rows = read_index(tmp_path / "ds").to_pylist()
    assert {r["told"]: r["status"] for r in rows} == {
        "Some buildings stand here.": "kept", "Several buildings, and cars.": "flagged",
        "An airport with ten airplanes.": "rejected", "": "rejected", "Blue.": "rejected",
    }  # fmt: skip
    for row in rows:
        assert row["caption"] == (row["told"] if row["status"] == "kept" else row["map_caption"])
        held = [c["verdict"] == "supported" for c in row["claims"]]
        assert row["hallucination"] == (pytest.approx(1 - sum(held) / len(held)) if held else 1.0)
    assert manifest["told"]["kept"] == sum(r["status"] == "kept" for r in rows) > 0
    sample = open_dataset(tmp_path / "ds")[0]
    assert Image.open(sample.images[0]).size == (50, 50)


def test_what_was_told_can_be_told_again(built, tmp_path):
    retell(Retell(built, tmp_path / "once", "recaption", "m"), lambda p: ["Some buildings stand here."] * len(p))
    again = ("Some buildings can be seen.", "An airport.")
    answers = lambda p: [again[n % 2] for n in range(len(p))]  # noqa: E731
    retell(Retell(tmp_path / "once", tmp_path / "twice", "rewrite", "m"), answers)
    once, twice = (read_index(tmp_path / name) for name in ("once", "twice"))
    assert twice.column_names == once.column_names
    assert twice["map_caption"] == once["map_caption"] == read_index(built)["caption"]
    assert {(r["status"], r["told"], r["caption"]) for r in twice.to_pylist()} == {
        ("kept", again[0], again[0]), ("rejected", again[1], "Some buildings stand here.")}  # fmt: skip
    assert Image.open(open_dataset(tmp_path / "twice")[0].images[0]).size == (50, 50)


def test_models_get_the_image_and_the_facts(built, tmp_path):
    seen = []
    retell(Retell(built, tmp_path / "a", "recaption", "m", batch_size=5), lambda p: seen.extend(p) or ["x"] * len(p))
    assert seen[0][0].shape == (50, 50, 3) and "buildings" in seen[0][1]
    seen.clear()
    prompt = "{facts} // {caption}"
    retell(Retell(built, tmp_path / "b", "rewrite", "m", prompt), lambda p: seen.extend(p) or ["x"] * len(p))
    row = read_index(built).to_pylist()[0]
    assert seen[0] == (None, f"{in_words(facts_of(row['facts']))} // {row['caption']}")


def test_a_stopped_run_asks_only_for_what_is_missing(built, tmp_path):
    asked = []

    def write(prompts, fail_after=10**6):
        if len(asked) >= fail_after:
            raise KeyboardInterrupt
        asked.extend(prompts)
        return ["Some buildings."] * len(prompts)

    job = Retell(built, tmp_path / "ds", "rewrite", "m", batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        retell(job, lambda p: write(p, 8))
    assert len(asked) == 8 and not (tmp_path / "ds/index.parquet").exists()
    retell(job, write)
    assert len(asked) == len(read_index(built))
    retell(Retell(built, tmp_path / "once", "rewrite", "m", batch_size=4), write)
    assert content(tmp_path / "ds") == content(tmp_path / "once")


def test_lhrs_nano_describes_and_is_checked(built, tmp_path):
    write = load_text_generator("lhrs-nano")
    retell(Retell(built, tmp_path / "ds", "recaption", "lhrs-nano", "Describe the image."), write)
    for row in read_index(tmp_path / "ds").to_pylist():
        assert row["told"]
        status, share, claims = judge(row["told"], facts_of(row["facts"]), 0.0, 0.34)
        assert (status, share, len(claims)) == (row["status"], row["hallucination"], len(row["claims"]))


def test_a_language_model_of_transformers_rewrites(built, tmp_path):
    tokenizer = byte_tokenizer([])
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}>"
    tokenizer.save_pretrained(tmp_path / "llm")
    LlamaForCausalLM(llama(len(tokenizer), max_position_embeddings=2048)).save_pretrained(tmp_path / "llm")
    write = load_text_generator(str(tmp_path / "llm"), max_new_tokens=8)
    prompts = [(None, "Rewrite: a"), (None, "Rewrite: a longer one"), (None, "b")]
    assert write(prompts) == [write([p])[0] for p in prompts]
    with pytest.raises(ConfigError, match="cannot look at images"):
        retell(Retell(built, tmp_path / "x", "recaption", "llm"), write)
    manifest = retell(Retell(built, tmp_path / "ds", "rewrite", "llm"), write)
    assert manifest["told"]["kept"] == 0
    assert read_index(tmp_path / "ds")["caption"].to_pylist() == read_index(built)["caption"].to_pylist()


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
        manifest = retell(Retell(built, tmp_path / "ds", "rewrite", "echo"), write)
    finally:
        server.should_exit = True
    rows = read_index(tmp_path / "ds").to_pylist()
    assert len(seen) == len(rows) == manifest["told"]["kept"]
    assert all(not [c for c in check(r["caption"], facts_of(r["facts"])) if c.verdict != "supported"] for r in rows)


def test_wrong_inputs_are_one_line(built, tmp_path):
    with pytest.raises(DataError, match="is no alignment data set"):
        retell(Retell(tmp_path, tmp_path / "o", "rewrite", "m"), list)
    with pytest.raises(ConfigError, match="exists already"):
        retell(Retell(built, built, "rewrite", "m"), list)
    with pytest.raises(DataError, match="m answered 0 of"):
        retell(Retell(built, tmp_path / "p", "rewrite", "m"), lambda prompts: [])
    assert "told" not in json.loads((built / "manifest.json").read_bytes())
