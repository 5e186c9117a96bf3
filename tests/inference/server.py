"""A server that answers like OpenAI's, for clients to talk to."""

import base64
import io
import json
import threading
import time

import numpy as np
import pytest
from PIL import Image

from lhrs.inference.load import load
from lhrs.inference.runtime import Request


class Server:
    """The embedded model behind the two addresses that clients use, in a real HTTP server."""

    def __init__(self, knows_forms: bool, tells: bool) -> None:
        fastapi, uvicorn = pytest.importorskip("fastapi"), pytest.importorskip("uvicorn")
        self.app, self.seen, self.knows_forms, self.tells = fastapi.FastAPI(), [], knows_forms, tells
        self.model = load()

        @self.app.get("/v1/models")
        def models() -> dict:
            return {"object": "list", "data": [{"id": "lhrs-nano", "object": "model", "created": 0, "owned_by": "us"}]}

        @self.app.post("/v1/chat/completions")
        def complete(body: dict):
            return self.complete(body, fastapi.responses)

        self.server = uvicorn.Server(uvicorn.Config(self.app, port=0, log_level="error"))
        threading.Thread(target=self.server.run, daemon=True).start()
        while not self.server.started:
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}/v1"

    def complete(self, body: dict, responses):
        self.seen.append(body)
        if "response_format" in body and not self.knows_forms:
            return responses.JSONResponse({"error": {"message": "no response_format here"}}, 400)
        content = body["messages"][-1]["content"]
        picture = next(c["image_url"]["url"] for c in content if c["type"] == "image_url")
        pixels = np.array(Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))).convert("RGB"))
        question = next(c["text"] for c in content if c["type"] == "text")
        answer = body.get("response_format", {}).get("json_schema", {}).get("schema", {}).get("properties", {})
        options = answer.get("answer", {}).get("enum")
        reply = self.model.runtime.generate([Request((pixels,), question, options and tuple(options))])[0]
        text = json.dumps({"answer": reply.text}) if answer else reply.text
        told = [{"token": "x", "logprob": float(np.log(p)), "bytes": None, "top_logprobs": []} for p in (0.5, 0.5)]
        whole = {"id": "1", "created": 0, "model": "lhrs-nano", "object": "chat.completion"}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text},
                  "logprobs": {"content": told} if self.tells and body.get("logprobs") else None}  # fmt: skip
        if body.get("stream"):
            parts = [{**whole, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": c}}]}
                     for c in text]  # fmt: skip
            lines = "".join(f"data: {json.dumps(p)}\n\n" for p in parts) + "data: [DONE]\n\n"
            return responses.PlainTextResponse(lines, media_type="text/event-stream")
        return {**whole, "choices": [choice]}
