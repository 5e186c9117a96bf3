"""The routes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from lhrs.errors import DataError
from lhrs.imagery.sensors import sensors
from lhrs.inference.images import RenderingOptions
from lhrs.serving import completions, image_worker
from lhrs.serving.api_types import ChatRequest, Name
from lhrs.serving.errors import APIError
from lhrs.serving.middleware import RequestGuard
from lhrs.serving.scene_routes import scene_routes
from lhrs.serving.service import Service
from lhrs.serving.static import Page
from lhrs.serving.upload import receive

_EXPIRE_S = 60.0


class RenderingQuery(BaseModel):
    """How a file is rendered; see `lhrs.serving.api_types.LHRSFields`."""

    sensor: Name | None = None
    composite: Name | None = None
    gsd_m: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @property
    def options(self) -> RenderingOptions:
        """The same for `open_image`."""
        return RenderingOptions(self.sensor, self.composite, self.gsd_m)


class PreviewQuery(RenderingQuery):
    """The rendering and the size of a preview."""

    max_side: Annotated[int, Field(ge=16, le=4096)] = 1024


def make_app(service: Service) -> FastAPI:
    """Return the ASGI application of a service."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        expiring = asyncio.create_task(_expire(service))
        yield
        expiring.cancel()
        await service.stop()

    app = FastAPI(title="lhrs", lifespan=lifespan, docs_url=None, redoc_url=None)  # those pages load external assets
    app.add_middleware(RequestGuard, service=service)
    if service.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type"],
            expose_headers=["x-request-id"],
        )
    app.add_exception_handler(APIError, _refuse)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _http)
    name = service.assistant.runtime.name

    schema = ChatRequest.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
    parts = schema.pop("$defs")
    described = app.openapi

    def with_parts() -> dict[str, Any]:
        document = described()
        document.setdefault("components", {}).setdefault("schemas", {}).update(parts)
        return document

    app.openapi = with_parts  # type: ignore[method-assign]

    @app.post(
        "/v1/chat/completions",
        openapi_extra={"requestBody": {"content": {"application/json": {"schema": schema}}, "required": True}},
    )
    async def chat(request: Request) -> Response:
        """Answer a question about images."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise APIError(415, "content-type must be application/json", code="unsupported_media_type")
        return await completions.complete(service, request)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """List the model."""
        return {"object": "list", "data": [_model(service)]}

    @app.get("/v1/models/{model:path}")
    async def one_model(model: str) -> dict[str, Any]:
        """Return the model."""
        if model != name:
            raise APIError(404, f"the model here is {name!r}", "model", "model_not_found")
        return _model(service)

    @app.get("/v1/sensors")
    async def list_sensors() -> dict[str, Any]:
        """List the known sensors and their band composites."""
        data = [
            {"id": sensor.name, "object": "sensor", "composites": list(sensor.composites), "description": sensor.about}
            for sensor in sensors().values()
        ]
        return {"object": "list", "data": data}

    @app.post("/v1/files")
    async def upload(request: Request) -> dict[str, Any]:
        """Keep an image for later questions."""
        return await receive(service, request)

    @app.get("/v1/files")
    async def files(request: Request) -> dict[str, Any]:
        """List the key's files."""
        data = [file.public for file in service.files.list(request.state.owner)]
        return {"object": "list", "data": data, "has_more": False}  # otherwise clients request a next page

    @app.get("/v1/files/{file_id}")
    async def file(file_id: str, request: Request, rendering: Annotated[RenderingQuery, Query()]) -> dict[str, Any]:
        """Return a file's record, with size, location and rendering of the image."""
        stored = service.files.get(file_id, request.state.owner)
        decoded = await service.decode_file(stored.id, stored.path, rendering.options)
        return {**stored.public, "image": describe(decoded)}

    @app.get("/v1/files/{file_id}/preview")
    async def preview(file_id: str, request: Request, query: Annotated[PreviewQuery, Query()]) -> Response:
        """Return a PNG of a file."""
        stored = service.files.get(file_id, request.state.owner)
        try:
            data = await service.image_workers.run(image_worker.preview, stored.path, query.max_side, query.options)
        except DataError as error:
            raise APIError(400, str(error), "file_id", "invalid_image") from None
        return Response(data, media_type="image/png", headers={"cache-control": "private, max-age=3600"})

    @app.delete("/v1/files/{file_id}")
    async def delete(file_id: str, request: Request) -> dict[str, Any]:
        """Remove a file."""
        service.files.delete(file_id, request.state.owner)
        service.forget(file_id)
        service.scenes.prune()
        return {"id": file_id, "object": "file", "deleted": True}

    @app.get("/health")
    async def health() -> Response:
        """Return whether requests are accepted."""
        state = "shutting down" if service.draining else "ok"
        return JSONResponse({"status": state, "model": name}, 503 if service.draining else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Return the metrics for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    app.include_router(scene_routes(service))
    app.router.default = Page()  # mounting it would hide the allowed methods of the routes above
    return app


def describe(decoded: image_worker.DecodedImage) -> dict[str, Any]:
    """Return the field `image` of a file: size, ground sampling distance, corners and rendering."""
    image = decoded.image
    return {
        "width": image.width,
        "height": image.height,
        "gsd_m": image.gsd_m,
        "corners": decoded.ring,
        "bands": image.rendering.bands,
        "scaling": image.rendering.scaling,
        "chosen_by": image.rendering.chosen_by,
        "valid": image.valid_fraction,
    }


def _model(service: Service) -> dict[str, Any]:
    return {
        "id": service.assistant.runtime.name,
        "object": "model",
        "created": service.started,
        "owned_by": "lhrs",
    }


async def _expire(service: Service) -> None:
    while True:
        await asyncio.sleep(_EXPIRE_S)
        service.files.expire()
        service.scenes.prune()


async def _refuse(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, APIError)
    return JSONResponse(problem.body, problem.status, problem.headers)


async def _http(request: Request, error: Exception) -> Response:
    """Convert the framework's errors to the API's error format."""
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return await _refuse(request, APIError(400, f"{where}: {first['msg']}", where, "invalid_value"))
    assert isinstance(error, HTTPException)
    return await _refuse(request, APIError(error.status_code, str(error.detail)))
