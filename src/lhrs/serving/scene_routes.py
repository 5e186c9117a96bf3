"""The routes of `/v1/scenes`."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import FileResponse, Response

from lhrs.inference.images import RenderingOptions
from lhrs.serving.errors import APIError, validation_error
from lhrs.serving.scene_jobs import RESULTS, SceneRequest
from lhrs.serving.service import Service


def scene_routes(service: Service) -> APIRouter:
    """Return the routes below `/v1/scenes`."""
    routes = APIRouter(prefix="/v1/scenes")
    body = {"content": {"application/json": {"schema": SceneRequest.model_json_schema()}}, "required": True}

    @routes.post("", openapi_extra={"requestBody": body})
    async def start(request: Request) -> dict[str, Any]:
        """Ask about every window of an uploaded file."""
        try:
            scene_request = SceneRequest.model_validate_json(body := await request.body())
        except ValidationError as error:
            raise validation_error(error, body) from None
        file = service.files.get(scene_request.file_id, request.state.owner)
        rendering = RenderingOptions(scene_request.sensor, scene_request.composite)
        decoded = await service.decode_file(file.id, file.path, rendering)
        return service.scenes.submit(scene_request, file, decoded.image).public

    @routes.get("/{scene_id}")
    async def scene(scene_id: str, request: Request) -> dict[str, Any]:
        """Return a scene's state, progress and summary."""
        return service.scenes.get(scene_id, request.state.owner).public

    @routes.get("/{scene_id}/{name}")
    async def result(scene_id: str, name: str, request: Request) -> Response:
        """Return a file of a finished scene."""
        if name not in RESULTS:
            raise APIError(404, f"a scene has {' and '.join(RESULTS)}", "name", "no_such_result")
        path = service.scenes.result(scene_id, request.state.owner, name)
        return FileResponse(path, media_type=RESULTS[name], filename=name)

    @routes.delete("/{scene_id}")
    async def delete(scene_id: str, request: Request) -> dict[str, Any]:
        """Cancel a scene, or remove its results."""
        await service.scenes.delete(scene_id, request.state.owner)
        return {"id": scene_id, "object": "scene", "deleted": True}

    return routes
