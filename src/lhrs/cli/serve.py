"""`lhrs serve`: answer over HTTP, like OpenAI's API."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lhrs.cli.options import Device, Model, with_model_options
from lhrs.errors import ConfigError

if TYPE_CHECKING:
    from lhrs.inference.options import ModelOptions

_MB = 2**20


@with_model_options
def serve(
    model: Model = None,
    device: Device = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 is all addresses and needs API keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 selects a free one.")] = 8000,
    api_key_file: Annotated[
        Path | None, typer.Option(help="One API key per line; or LHRS_API_KEYS, separated by commas.")
    ] = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Accept requests without an API key.")] = False,
    image_host: Annotated[
        list[str] | None, typer.Option(help="Fetch images from this host (example.org, *.example.org); repeatable.")
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(help="Address or network of a reverse proxy whose X-Forwarded-* headers count; repeatable."),
    ] = None,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="Allowed origin of web pages (https://example.org); repeatable.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=1024, help="Maximum batch size.")] = 16,
    max_pending: Annotated[int, typer.Option(min=1, help="Requests in progress at a time; more get 429.")] = 64,
    timeout: Annotated[float, typer.Option(min=1, help="Timeout of a request in seconds.")] = 60.0,
    max_body_mb: Annotated[int, typer.Option(min=1, help="Maximum size of a request.")] = 32,
    max_file_mb: Annotated[int, typer.Option(min=1, help="Maximum size of an uploaded file.")] = 1024,
    quota_mb: Annotated[int, typer.Option(min=1, help="Maximum size of all uploaded files.")] = 8192,
    file_hours: Annotated[float, typer.Option(min=0.01, help="How long uploaded files are kept.")] = 24.0,
    log_text: Annotated[bool, typer.Option("--log-text", help="Log questions and answers.")] = False,
    *,
    model_options: "ModelOptions",
) -> None:
    """Answer over HTTP like OpenAI's API: /v1/chat/completions, /v1/files; see docs/serving.md."""
    from lhrs.inference.load import load
    from lhrs.serving.server import check
    from lhrs.serving.server import serve as run
    from lhrs.serving.settings import Settings

    settings = Settings(
        host=host,
        port=port,
        keys=_keys(api_key_file),
        image_hosts=tuple(image_host or ()),
        trusted_proxies=tuple(trusted_proxy or ()),
        cors_origins=tuple(cors_origin or ()),
        batch_size=batch_size,
        max_pending=max_pending,
        timeout_s=timeout,
        max_body=max_body_mb * _MB,
        max_file=max_file_mb * _MB,
        quota=quota_mb * _MB,
        file_ttl_s=file_hours * 3600,
        log_text=log_text,
        model=model,
        device=device,
        options=model_options,
        max_tokens=max(Settings.max_tokens, model_options.max_new_tokens or 0),
    )
    check(settings, no_auth)
    run(load(model, device, model_options), settings)


def _keys(file: Path | None) -> tuple[str, ...]:
    text = os.environ.get("LHRS_API_KEYS", "").replace(",", "\n")
    if file is not None:
        try:
            text += "\n" + file.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--api-key-file {file} cannot be read: {error}") from error
    keys = tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if file is not None and not keys:
        raise ConfigError(f"--api-key-file {file} contains no key.")
    if any(len(key) < 16 for key in keys):
        raise ConfigError("an API key has fewer than 16 characters; make one: openssl rand -hex 24")
    return keys
