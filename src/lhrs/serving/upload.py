"""Uploads: receive a file and verify that it is an image."""

import asyncio
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from lhrs.serving.errors import APIError
from lhrs.serving.service import Service


async def receive(service: Service, request: Request) -> dict[str, Any]:
    """Store the file of a form if it is an image; return its record.

    Raises:
        APIError: it is not an image, or too large, or there is no space.
    """
    length = request.headers.get("content-length", "")
    # A chunked body has any length, whatever its Content-Length.
    if not length.isdecimal() or "transfer-encoding" in request.headers:
        raise APIError(411, "an upload needs a content-length header", "file", "length_required")
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise APIError(415, "content-type must be multipart/form-data", code="unsupported_media_type")
    owner = request.state.owner
    with service.files.reserved(int(length)):
        async with request.form(max_files=1, max_fields=8) as form:
            file, purpose = form.get("file"), form.get("purpose", "vision")
            if not isinstance(file, UploadFile) or not file.size:
                raise APIError(400, "the form has no file, or an empty one", "file", "invalid_value")
            if not isinstance(purpose, str) or len(purpose) > 40:
                raise APIError(400, "purpose must be a short word", "purpose", "invalid_value")
            # In a thread, and to completion even if the client disconnects.
            writing = asyncio.ensure_future(asyncio.to_thread(service.files.write, file.file))
            try:
                identity, path, size = await asyncio.shield(writing)
            except asyncio.CancelledError:
                service.files.discard((await writing)[0])
                raise
        try:
            await service.decode_file(identity, path)
        except BaseException:
            service.files.discard(identity)
            raise
    name = (file.filename or "image").replace("\\", "/").rpartition("/")[2][:200]
    return service.files.add(identity, path, size, owner, name, purpose).public
