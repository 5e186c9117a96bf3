"""The tasks as tools of the Model Context Protocol, for agents."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from lhrs import fingerprint
from lhrs.errors import LHRSError
from lhrs.imagery.geo_image import GeoImage
from lhrs.imagery.image import open_image
from lhrs.inference.assistant import Assistant
from lhrs.inference.images import RenderingOptions
from lhrs.schema import Answer
from lhrs.serving.image_worker import GDAL_LIMITS, driver_of

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

_ABOUT = (
    "Questions about satellite and aerial images. Paths start at the server's folder. Answers have a confidence; "
    "where `out_of_distribution` is true the image is unlike the training images: do not rely on the answer."
)
Sensor = Annotated[str | None, Field(description="Sensor of the image; detected by default.")]
Composite = Annotated[str | None, Field(description="Band composite of the sensor to render, such as swir.")]
GSD = Annotated[float | None, Field(gt=0, description="Meters per pixel of the rendering.")]
SCENES = "lhrs-scenes"
"""Output folder of `scene`, below the server's folder."""


def make_server(root: Path, load: Callable[[], Assistant], model: str | None, device: str | None) -> "MCPServer":
    """Return a server whose tools read images below one folder and write below `lhrs-scenes` in it.

    It sets GDAL to ignore sidecar files in the whole process, so run it in a separate process.

    Args:
        root: the folder; nothing outside it is read, even through links or references in files.
        load: loads the model at the first question.
        model: name of the same model, which `scene` loads by itself.
        device: of `scene`.
    """
    from mcp.server.mcpserver import MCPServer

    os.environ.update(GDAL_LIMITS)
    server = MCPServer("lhrs", instructions=_ABOUT)
    base, lock, loaded = root.resolve(), Lock(), list[Assistant]()

    def answer(image: str, ask: Callable[[Assistant, GeoImage], Answer], *rendering: Any) -> dict[str, Any]:
        with lock, _tool_errors():  # the model answers one question at a time
            path = inside(base, image)
            opened = open_image(path, driver=driver_of(path), **RenderingOptions(*rendering).arguments)
            if not loaded:
                loaded.append(load())
            return {**ask(loaded[0], opened).model_dump(), "image": image}

    @server.tool()
    def ask(
        image: str,
        question: str,
        options: list[str] | None = None,
        sensor: Sensor = None,
        composite: Composite = None,
        gsd_m: GSD = None,
    ) -> dict[str, Any]:
        """Answer a question about an image; with options the answer is exactly one of them."""
        return answer(image, lambda a, opened: a.ask(opened, question, options), sensor, composite, gsd_m)

    @server.tool()
    def caption(image: str, sensor: Sensor = None, composite: Composite = None, gsd_m: GSD = None) -> dict[str, Any]:
        """Describe an image in a sentence."""
        return answer(image, lambda a, opened: a.caption(opened), sensor, composite, gsd_m)

    @server.tool()
    def classify(
        image: str,
        labels: list[str] | None = None,
        sensor: Sensor = None,
        composite: Composite = None,
        gsd_m: GSD = None,
    ) -> dict[str, Any]:
        """Name the class of an image, exactly one of the labels if there are any."""
        return answer(image, lambda a, opened: a.classify(opened, labels), sensor, composite, gsd_m)

    @server.tool()
    def ground(
        image: str, expression: str, sensor: Sensor = None, composite: Composite = None, gsd_m: GSD = None
    ) -> dict[str, Any]:
        """Find what an expression names; boxes are xyxy in pixels, and lon/lat where the image is georeferenced."""
        return answer(image, lambda a, opened: a.ground(opened, expression), sensor, composite, gsd_m)

    @server.tool()
    def count(
        image: str, target: str = "buildings", sensor: Sensor = None, composite: Composite = None, gsd_m: GSD = None
    ) -> dict[str, Any]:
        """Count things in an image."""
        return answer(image, lambda a, opened: a.count(opened, target), sensor, composite, gsd_m)

    @server.tool()
    def scene(
        scene: str,
        task: Literal["classify", "caption", "ground", "count", "vqa"],
        labels: list[str] | None = None,
        target: str = "",
        size: int | None = None,
        sensor: Sensor = None,
        composite: Composite = None,
        gsd_m: GSD = None,
    ) -> dict[str, Any]:
        """Ask about every window of a whole georeferenced raster: areas by class, numbers of objects, GeoJSON.

        `target` is the question of vqa, or what to ground or count. `size` is the side of a window in pixels
        of the rendering; the default depends on the model. Returns the summary and where the files were written.
        """
        from lhrs.scene.run import SceneConfig, run
        from lhrs.scene.window_inference import SceneQuery

        with lock, _tool_errors():
            path = inside(base, scene)
            driver = driver_of(path)
            query = SceneQuery(task, None if labels is None else tuple(labels), target, model, device)
            settings = [task, labels, target, size, sensor, composite, gsd_m]
            key = fingerprint.of_config([scene, fingerprint.of_file(path), *settings])
            folder = base / SCENES / f"{path.stem}-{key[:12]}"
            manifest = folder / "manifest.json"
            if not manifest.exists():  # a repeated question reuses the existing results
                config = SceneConfig(
                    scenes=(str(path),), out=folder, query=query, size=size, sensor=sensor,
                    composites=() if composite is None else (composite,), gsd_m=gsd_m, driver=driver,
                )  # fmt: skip
                run(config)
            (summary,) = json.loads(manifest.read_text())["scenes"]
            return {**summary, "folder": folder.relative_to(base).as_posix()}

    return server


def inside(base: Path, name: str) -> Path:
    """Return the file of a name below a folder.

    Raises:
        LHRSError: it is outside the folder, or missing.
    """
    try:
        path = (base / name).resolve()
        there = path.is_relative_to(base) and path.is_file()
    except (OSError, ValueError):  # invalid file names
        there = False
    if not there:
        raise LHRSError(f"there is no file {name!r} in the server's folder.")
    return path


@contextmanager
def _tool_errors() -> Iterator[None]:
    """Return errors to the agent as a tool result, not as a server failure."""
    from mcp.server.mcpserver.exceptions import ToolError

    try:
        yield
    except LHRSError as error:
        raise ToolError(" ".join(str(error).split())) from error
