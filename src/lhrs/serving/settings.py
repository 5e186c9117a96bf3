"""Settings of the server."""

from dataclasses import dataclass

from lhrs.inference.options import ModelOptions

MB = 2**20


@dataclass(frozen=True)
class Settings:
    """Address, access control and limits of the server.

    The defaults are for a small machine with untrusted clients: rejecting a request is cheap.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: tuple[str, ...] = ()
    """API keys; without keys, every client is accepted."""
    image_hosts: tuple[str, ...] = ()
    """Hosts that images may be fetched from, `host`, `host:port` or `*.domain`; none by default."""
    cors_origins: tuple[str, ...] = ()
    """Origins of web pages that may send requests, `https://host`; none by default."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of reverse proxies; X-Forwarded-Host, -Proto and -For of others are not read."""
    log_text: bool = False
    """Write questions and answers to the log."""

    batch_size: int = 16
    """Maximum batch size of the model."""
    wait_ms: float = 5.0
    """Time that a batch waits for requests whose images are still being decoded."""
    max_pending: int = 64
    """Maximum number of concurrent requests, in any state; further requests get 429."""
    timeout_s: float = 60.0
    """Time from the arrival of a request to the end of its answer."""
    decode_s: float = 20.0
    """Time to read one image."""
    image_workers: int = 2
    """Processes that read images."""
    decoder_bytes: int = 4 * 2**30
    """Memory of each."""
    grace_s: float = 30.0
    """Time to finish the requests in progress after SIGTERM."""
    connections: int = 512

    max_body: int = 32 * MB
    """Bytes of a request other than an upload. Base64 increases the size of images by a third."""
    max_images: int = 8
    max_pixels: int = 100_000_000
    """Of images that cannot be read by window (PNG, JPEG, WebP ...), unlike rasters with overviews."""
    max_text: int = 20_000
    """Characters of all messages together."""
    max_tokens: int = 1024
    """Maximum length of an answer."""

    max_file: int = 1024 * MB
    """Bytes of one uploaded file."""
    quota: int = 8 * 1024 * MB
    """Bytes of all uploaded files."""
    max_files: int = 1000
    file_ttl_s: float = 24 * 3600.0
    """How long an uploaded file is kept."""

    model: str | None = None
    """Model for whole scenes, as `lhrs.load` accepts it."""
    device: str | None = None
    """See `model`."""
    options: ModelOptions = ModelOptions()  # noqa: RUF009 (frozen)
    """See `model`."""
    scene_queue: int = 4
    """Maximum number of queued scenes; further scenes get 429."""
    max_scenes: int = 50
    """Maximum number of scenes whose results are kept."""
    scene_windows: int = 20_000
    """Windows of one scene."""
    scene_s: float = 3600.0
    """Time for one scene."""
