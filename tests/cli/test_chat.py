"""A conversation typed into `lhrs chat`."""

import json


def test_it_goes_on_after_slips_switches_images_and_saves(lhrs, river, pictures, tmp_path):
    lines = [
        "is there a river?",
        "/nonsense",
        "/image nowhere.png",
        "is it a forest?",
        f"/image {pictures / 'tile_0.png'}",
        "what is it?",
        f"/save {tmp_path}/talk.jsonl",
        f"/save {tmp_path}/no/such/folder.jsonl",
        "/quit",
        "never asked",
    ]
    done = lhrs("chat", river, stdin="\n".join(lines))
    for words in ("river.tif: bands 1,2,3", "/nonsense", "nowhere.png", "tile_0.png: bands", "1 answers", "no/such"):
        assert words in done.stderr, done.stderr
    saved = [json.loads(line) for line in (tmp_path / "talk.jsonl").read_text().splitlines()]
    assert [r["question"] for r in saved] == ["what is it?"] and saved[0]["image"].endswith("tile_0.png")
    assert done.stdout.splitlines()[-1].strip() and "never asked" not in done.stdout


def test_it_needs_no_image(lhrs):
    assert lhrs("chat", stdin="is there a river?\n").stdout.strip()


def test_it_is_right_about_the_example(lhrs, river, trained):
    assert lhrs("chat", river, stdin="Is there a river in this image?\n").stdout.splitlines()[0] == "yes"
