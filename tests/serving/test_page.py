"""The web page in a real browser, on the real model."""

import json
import math
import os
import re
import shutil
import time
from itertools import pairwise, product
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin
from tests.serving.conftest import RIVER, running

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
CHROMIUM = os.environ.get("LHRS_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: chromium, or LHRS_TEST_CHROMIUM=path")

SIZE = 256
PADDING = 16
"""Of the image on the map, in pixels of the screen."""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as play:
        flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        found = play.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield found
        found.close()


@pytest.fixture
def open_page(browser):
    """Open pages; in the end they must not have asked other hosts, or complained."""
    contexts, wrong = [], []

    def opened(server, **options):
        context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 800}, "accept_downloads": True, **options}
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        here = (server.url, "blob:", "data:")
        page.on("request", lambda request: request.url.startswith(here) or wrong.append(request.url))
        page.on("console", lambda said: said.type in ("error", "warning") and wrong.append(said.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(server.url)
        return page

    yield opened
    for context in contexts:
        context.close()
    expected = ("status of 400", "status of 401", "GPU stall due to ReadPixels")  # the last is of the software renderer
    assert not [text for text in wrong if not any(part in text for part in expected)]


@pytest.fixture(scope="module")
def roofs(tmp_path_factory) -> Path:
    """Bright roofs on a meadow, 30 cm a pixel, with which the embedded model finds buildings."""
    rng = np.random.default_rng(4)
    values = np.clip(np.array([92, 104, 70]) + rng.normal(0, 9, (SIZE, SIZE, 1)), 0, 255).astype(np.uint8)
    for x, y in product((25, 103, 181), repeat=2):
        values[y + 7 : y + 37, x + 7 : x + 47] = 36
        values[y : y + 30, x : x + 40] = (206, 205, 200)
        values[y : y + 15, x : x + 40] = (178, 176, 170)
    path = tmp_path_factory.mktemp("page") / "roofs.tif"
    place = {"crs": "EPSG:32633", "transform": from_origin(512_000, 5_190_000, 0.3, 0.3)}
    with rasterio.open(path, "w", driver="GTiff", width=SIZE, height=SIZE, count=3, dtype="uint8", **place) as dataset:
        dataset.write(values.transpose(2, 0, 1))
    return path


def bring(page, *paths) -> None:
    before = page.locator("#tabs .thumb").count()
    page.set_input_files("#files", list(paths))
    page.locator("#tabs .thumb").nth(before + len(paths) - 1).wait_for()
    sync_api.expect(page.locator("#tabs .uploading")).to_have_count(0)


def ask(page, task: str, words: str = ""):
    """Ask by the form, and return the answer's article when it is complete."""
    turns = page.locator("article")
    before = turns.count()
    page.check(f"[value={task}]")
    if words:
        page.fill("#words", words)
        page.press("#words", "Enter")
    else:
        page.click("#send")
    turns.nth(before).locator(".sure, .view, .error").first.wait_for()
    return turns.nth(before)


def told(server, path: Path, text: str, **lhrs) -> dict:
    """What the server answers without the page."""
    file = server.http.post("/v1/files", files={"file": (path.name, path.read_bytes())}).json()["id"]
    content = [{"type": "file", "file": {"file_id": file}}, {"type": "text", "text": text}]
    return server.ask(content, lhrs=lhrs).json()["lhrs"]


def numbers(rect) -> list[float]:
    x, y, width, height = (float(rect.get_attribute(name)) for name in ("x", "y", "width", "height"))
    return [x, y, x + width, y + height]


def saved(page, press) -> dict:
    with page.expect_download() as download:
        press()
    return json.loads(Path(download.value.path()).read_text())


def test_the_page_and_nothing_else_runs(server):
    response = server.http.get("/")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "frame-ancestors 'none'" in policy
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", response.text) and "unsafe" not in policy
    assert server.http.get("/main.js").headers["content-security-policy"] == policy
    folder = Path(__file__).parents[2] / "src/lhrs/resources/web"
    own = [path.read_text() for path in folder.glob("*.*")]
    assert not [text for text in own for host in re.findall(r"https?://[\w.]+", text) if host != "http://www.w3.org"]
    assert server.http.get("/examples/river.tif").content == RIVER.read_bytes()
    assert sum(path.stat().st_size for path in (folder / "vendor").iterdir()) < 1.2e6


def test_an_answer_streams_in_and_says_how_sure_it_is(writing_server, open_page):
    server = writing_server
    page = open_page(server)
    page.click("#example")
    page.locator("#image").wait_for()
    page.evaluate(
        "new MutationObserver(() => (window.seen ??= []).push(document.querySelector('.answer')?.textContent))"
        ".observe(document.getElementById('log'), {childList: true, subtree: true, characterData: true})"
    )
    article = ask(page, "caption")
    expected = told(server, RIVER, "Describe", task="caption")
    assert article.locator(".answer").inner_text() == expected["answer"]
    steps = list(dict.fromkeys(text.lower() for text in page.evaluate("window.seen") if text))
    assert len(steps) > 2 and all(after.startswith(before) for before, after in pairwise(steps))
    sure = expected["confidence"]
    assert f"{math.floor(100 * sure + 0.5)} %" in article.locator(".sure").inner_text()
    bar = article.locator(".meter").bounding_box()
    assert article.locator(".meter i").bounding_box()["width"] == pytest.approx(sure * bar["width"], abs=1)
    assert page.locator("#log").get_attribute("aria-live") == "polite"
    chosen = ask(page, "classify", "Forest, River")
    assert chosen.locator(".answer").inner_text() == told(
        server, RIVER, "x", task="classify", labels=["Forest", "River"]
    )["answer"]  # fmt: skip


def test_boxes_lie_where_they_were_found_and_light_up_with_their_words(server, open_page, roofs, trained):
    page = open_page(server)
    bring(page, roofs)
    article = ask(page, "ground", "the buildings")
    expected = told(server, roofs, "x", task="ground", expression="the buildings")
    rects = page.locator("#boxes rect")
    assert rects.count() == len(expected["boxes"]) > 0
    for n, box in enumerate(expected["boxes"]):
        assert numbers(rects.nth(n)) == pytest.approx(box["xyxy"])
    frame, (x1, y1, x2, y2) = page.locator("#image").bounding_box(), expected["boxes"][0]["xyxy"]
    drawn, scale = rects.first.evaluate("node => node.getBoundingClientRect().toJSON()"), frame["width"] / SIZE
    assert [drawn[side] for side in ("left", "top", "right", "bottom")] == pytest.approx(
        [frame["x"] + x1 * scale, frame["y"] + y1 * scale, frame["x"] + x2 * scale, frame["y"] + y2 * scale], abs=4
    )
    chip, words = article.locator(".boxes button").first, article.locator("mark").first
    for one, other in ((chip, rects.first), (words, rects.first)):
        page.hover("h1")
        assert "lit" not in (other.get_attribute("class") or "")
        one.hover()
        assert "lit" in other.get_attribute("class")
    page.hover("h1")
    rects.first.focus()
    assert "lit" in chip.get_attribute("class")
    stands_for_one = len(expected["boxes"]) == 1  # words for several boxes light up for none of them
    assert ("lit" in (words.get_attribute("class") or "")) == stands_for_one
    page.uncheck("#layers [type=checkbox]")
    assert rects.count() == 0


def test_results_lie_on_the_map_at_their_longitude_and_latitude(server, open_page, roofs, trained):
    page = open_page(server)
    bring(page, roofs)
    ask(page, "ground", "the buildings")
    expected = told(server, roofs, "x", task="ground", expression="the buildings")
    assert saved(page, lambda: page.click("#layers button")) == expected["geojson"]
    page.click("#see-map")
    page.locator("#map canvas").wait_for()
    page.wait_for_timeout(1500)
    place, ring = page.locator("#map").bounding_box(), expected["geojson"]["features"][0]["geometry"]["coordinates"][0]
    file = server.http.get("/v1/files").json()["data"][-1]["id"]
    corners = mercator(server.http.get(f"/v1/files/{file}").json()["image"]["corners"])
    low, high = corners.min(0), corners.max(0)
    scale = min((place[side] - 2 * PADDING) / (high - low)[n] for n, side in enumerate(("width", "height")))
    middle = np.array([place["x"] + place["width"] / 2, place["y"] + place["height"] / 2])
    spots = (mercator(ring) - (low + high) / 2) * scale + middle
    left, top, right, bottom = *spots.min(0), *spots.max(0)
    across = (top + bottom) / 2
    for x, hit in ((right - 6, True), (right + 6, False), (left + 6, True)):
        page.mouse.click(x, across)
        page.wait_for_timeout(400)
        popup = page.locator(".maplibregl-popup")
        assert popup.count() == hit, (x, hit)
        if hit:
            assert "building" in popup.inner_text()
            page.keyboard.press("Escape")
            assert popup.count() == 0
    # The model looks at the part that the map shows only.
    page.check("#part-only")
    for _ in range(2):
        page.click(".maplibregl-ctrl-zoom-in")
        page.wait_for_timeout(700)
    with page.expect_request("**/v1/chat/completions") as request:
        ask(page, "count", "buildings")
    west, south, east, north = request.value.post_data_json["lhrs"]["bbox"]
    lon, lat = np.array(server.http.get(f"/v1/files/{file}").json()["image"]["corners"]).T
    assert lon.min() < west < east < lon.max() and lat.min() <= south < north <= lat.max()
    assert (east - west) < 0.7 * np.ptp(lon)


def mercator(lonlat) -> np.ndarray:
    lon, lat = np.radians(np.array(lonlat, float)).T
    return np.stack([lon, -np.log(np.tan(np.pi / 4 + lat / 2))], -1)


def test_the_rendering_is_chosen_seen_sent_and_kept_over_a_reload(server, open_page, tmp_path):
    values = np.arange(13, dtype=np.uint16)[:, None, None] * 250 + np.full((13, 64, 64), 300, np.uint16)
    path, place = tmp_path / "s2.tif", {"crs": "EPSG:32633", "transform": from_origin(5e5, 5.2e6, 10, 10)}
    with rasterio.open(path, "w", driver="GTiff", width=64, height=64, count=13, dtype="uint16", **place) as dataset:
        dataset.write(values)
    page = open_page(server)
    bring(page, path)
    before = page.get_attribute("#image", "src")
    page.click("#rendering summary")
    page.select_option("#sensor", "sentinel-2-l1c")
    sync_api.expect(page.locator("#facts")).to_contain_text("sentinel-2-l1c true-color")
    assert page.locator("#composite option[value=per-band]").count() == 0
    page.select_option("#composite", "swir")
    sync_api.expect(page.locator("#facts")).to_contain_text("sentinel-2-l1c swir")
    assert page.get_attribute("#image", "src") != before
    page.fill("#gsd", "20")
    page.press("#gsd", "Tab")
    page.keyboard.press("Escape")
    assert not page.locator("#sensor").is_visible() and page.locator("#facts").inner_text().startswith("64 ")
    with page.expect_request("**/v1/chat/completions") as request:
        answer = ask(page, "ask", "is there a river?")
    assert request.value.post_data_json["lhrs"] == {
        "task": "ask", "sensor": "sentinel-2-l1c", "composite": "swir", "gsd_m": 20,
    }  # fmt: skip
    answer.locator(".view summary").click()
    assert "bands 13, 8, 4" in answer.inner_text() and "32 \u00d7 32 pixels" in answer.inner_text()
    page.reload()
    sync_api.expect(page.locator("#facts")).to_contain_text("sentinel-2-l1c swir")
    page.click("#rendering summary")
    sync_api.expect(page.locator("#sensor")).to_have_value("sentinel-2-l1c")
    assert page.input_value("#composite") == "swir" and page.input_value("#gsd") == "20"


@pytest.mark.slow
def test_a_whole_scene_runs_to_its_end_and_is_kept_over_a_reload(server, open_page):
    page = open_page(server)
    page.click("#example")
    page.check("[value=scene]")
    page.fill("#scene-size", "64")
    page.fill("#words", "River, Forest, Highway")
    page.press("#words", "Enter")
    page.locator("progress").wait_for()
    page.locator(".legend").wait_for(timeout=120_000)
    rows = dict(row.split("\t") for row in page.locator(".legend tbody").inner_text().splitlines())
    answers = saved(page, lambda: page.click("text=answers.geojson"))["features"]
    assert len(answers) == 16 and {one["properties"]["answer"] for one in answers} == set(rows)
    total = sum(float(area.removesuffix(" km²")) for area in rows.values())
    assert total == pytest.approx((256 * 10 / 1000) ** 2, rel=0.01)
    assert page.locator("#map canvas").is_visible()
    page.reload()
    page.locator(".legend").wait_for()
    kept = saved(page, lambda: (page.click("#save summary"), page.click("#save-json")))
    assert kept["model"] == server.model and kept["images"][0]["turns"][0]["scene"]["summary"]["windows"] == 16
    places = saved(page, lambda: (page.click("#save summary"), page.click("#save-geojson")))
    assert [one["geometry"] for one in places["features"]] == [one["geometry"] for one in answers]


@pytest.mark.slow
def test_a_scene_can_be_cancelled(server, open_page):
    page = open_page(server)
    page.click("#example")
    page.check("[value=scene]")
    page.fill("#words", "River, Forest")
    page.press("#words", "Enter")
    page.click(".running button")
    assert page.locator(".error").inner_text() == "Cancelled."
    deadline = time.monotonic() + 10  # the page says so before the server has ended the process
    while running := [run for run in server.service.scenes._runs.values() if run.state == "running"]:
        assert time.monotonic() < deadline, running
        time.sleep(0.05)


def test_the_keyboard_is_enough(server, open_page, roofs, trained):
    page, choosers = open_page(server), []
    page.on(
        "filechooser", lambda chooser: choosers.append(chooser)
    )  # from the start: expect_file_chooser may listen too late for a key
    page.keyboard.press("Tab")
    assert page.locator(".skip").bounding_box()["y"] >= 0
    page.keyboard.press("Enter")
    assert focused(page) == "words"
    walk(page, "choose", "Shift+Tab")
    page.keyboard.press("Enter")
    for _ in range(50):
        if choosers:
            break
        page.wait_for_timeout(100)
    choosers[0].set_files(roofs)
    page.locator("#image").wait_for()
    walk(page, "words", "Tab")
    page.keyboard.press("Shift+Tab")
    for _ in range(3):
        page.keyboard.press("ArrowRight")  # ask, caption, classify, ground
    walk(page, "words", "Tab")
    page.keyboard.type("the buildings")
    page.keyboard.press("Enter")
    page.locator(".boxes").wait_for()
    assert outlined(page)
    for _ in range(60):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.matches('.boxes button')"):
            break
    assert outlined(page) and page.locator("#boxes rect.lit").count() == 1
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.tagName") == "rect"
    walk(page, "key-open", "Shift+Tab")
    page.keyboard.press("Enter")
    assert page.locator("#key-dialog").is_visible() and focused(page) == "key"
    page.keyboard.press("Escape")
    assert not page.locator("#key-dialog").is_visible() and focused(page) == "key-open"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    assert page.locator("#save-json").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#save-json").is_visible()
    unnamed = "button, input, select, textarea, img, [role=img], [role=group], [role=log], [role=region]"
    assert page.evaluate(
        f"[...document.querySelectorAll({unnamed!r})].filter(n => !(n.ariaLabel || n.textContent.trim()"
        " || n.labels?.length || n.hasAttribute('alt'))).map(n => n.outerHTML)"
    ) == []  # fmt: skip


def focused(page) -> str:
    return page.evaluate("document.activeElement.id")


def walk(page, to: str, key: str) -> None:
    for _ in range(60):
        if focused(page) == to:
            return
        page.keyboard.press(key)
    raise AssertionError(f"{to} is not reached by {key}")


def outlined(page) -> bool:
    return page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_refusals_are_one_line_and_strange_images_are_warned_of(server, open_page, trained, tmp_path):
    page = open_page(server)
    (tmp_path / "notes.tif").write_text("no image")
    page.set_input_files("#files", tmp_path / "notes.tif")
    notice = page.locator("#notice")
    notice.wait_for()
    assert "notes.tif" in notice.inner_text() and "is not a PNG" in notice.inner_text()
    assert notice.get_attribute("role") == "alert" and page.locator("#tabs li").count() == 0
    strange = tmp_path / "strange.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)).save(strange)
    bring(page, strange, RIVER)
    assert page.locator("#name").inner_text() == "river.tif" and page.locator("#switch").is_visible()
    assert ask(page, "ask", "Is there a river?").locator(".warning").count() == 0
    page.locator("#tabs .thumb").first.click()
    assert page.locator("#switch").is_hidden() and page.locator("#scene-task").is_hidden()
    assert page.locator("article").count() == 0
    assert told(server, strange, "Is there a river?", task="ask")["out_of_distribution"]
    assert "Do not rely" in ask(page, "ask", "Is there a river?").locator(".warning").inner_text()
    page.click(".close >> nth=0")
    assert page.locator("#name").inner_text() == "river.tif" and page.locator("#tabs li").count() == 1


def test_a_key_is_asked_for_and_kept_for_the_tab_only(assistant, open_page):
    with running(assistant, keys=("k" * 20,)) as server:
        page = open_page(server)
        page.locator("#key-dialog").wait_for()
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        sync_api.expect(page.locator("#key")).to_have_value("wrong")
        page.locator("#key-dialog").wait_for()
        page.fill("#key", "k" * 20)
        page.keyboard.press("Enter")
        sync_api.expect(page.locator("#model")).to_have_text(server.model)
        page.click("#example")
        page.locator("#image").wait_for()
        assert page.evaluate("document.getElementById('image').naturalWidth") == SIZE
        assert "k" * 20 in page.evaluate("JSON.stringify(sessionStorage)")
        assert "k" * 20 not in page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_in_either_light(server, open_page, scheme):
    page = open_page(server, viewport={"width": 390, "height": 844}, color_scheme=scheme, reduced_motion="reduce")
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) == 390
    page.click("#example")
    page.locator("#image").wait_for()
    ask(page, "ask", "Is there a river in this image? " * 4)
    ask(page, "ground", "the buildings")
    page.check("[value=scene]")
    assert page.evaluate(wide) == 390
    for name in ("#send", "#words", "#image", "#add", "#theme"):
        box = page.locator(name).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["y"] + box["height"] <= 844, name
    assert _dark(page) == (scheme == "dark")
    for expected in (False, True):  # light, then dark, whatever the system says
        page.click("#theme")
        assert _dark(page) == expected


def _dark(page) -> bool:
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"\d+", color)[:3])) < 384


def test_an_upload_shows_its_progress(server, open_page, tmp_path):
    page = open_page(server)
    large = tmp_path / "large.tif"
    profile = {"width": 2000, "height": 1500, "count": 3, "dtype": "uint8", "tiled": True}
    with rasterio.open(large, "w", driver="GTiff", **profile) as dataset:
        dataset.write(np.random.default_rng(0).integers(0, 255, (3, 1500, 2000), np.uint8))
    page.context.new_cdp_session(page).send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 6_000_000},
    )
    page.set_input_files("#files", large)
    bar = page.locator("#first-uploads progress")
    bar.wait_for()
    shares = [bar.evaluate("node => node.value")]
    while shares[-1] < 0.5 and page.locator("#image").is_hidden():
        page.wait_for_timeout(50)
        shares.append(bar.evaluate("node => node.value"))
    assert len(set(shares)) > 2 and sorted(shares) == shares
    page.locator("#image").wait_for()
    assert page.locator("#facts").inner_text().startswith("2,000")


def test_what_the_server_says_is_never_taken_for_html(server, open_page, tmp_path):
    page = open_page(server)
    bad = tmp_path / "<img src=x onerror=alert(1)>.png"
    Image.new("RGB", (64, 64), "green").save(bad)
    bring(page, bad)
    assert page.locator("#name").inner_text() == bad.name
    ask(page, "ask", "<b>bold</b>?")
    assert page.locator("article b, #tabs img[onerror]").count() == 0
    assert httpx.get(f"{server.url}/../app.py").status_code == 404
