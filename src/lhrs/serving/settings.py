"""What an operator may set."""

from dataclasses import dataclass

MB = 2**20


@dataclass(frozen=True)
class Settings:
    """Where the server listens, who may ask, and how much.

    The defaults suit a small machine with untrusted clients: a refused request costs little.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: tuple[str, ...] = ()
    """API keys; without any, everyone who reaches the server may ask."""
    image_hosts: tuple[str, ...] = ()
    """Hosts that images may be fetched from, `host`, `host:port` or `*.domain`; none by default."""
    cors_origins: tuple[str, ...] = ()
    """Web sites whose pages may ask from a visitor's browser, `https://host`; none by default."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of reverse proxies; X-Forwarded-Host, -Proto and -For of others are not read."""
    log_text: bool = False
    """Write questions and answers to the log."""

    batch_size: int = 16
    """Requests that the model answers together."""
    wait_ms: float = 5.0
    """Time that a batch waits for requests whose images are still being decoded."""
    max_pending: int = 64
    """Requests under way at a time, in whatever state; one more gets 429."""
    timeout_s: float = 60.0
    """From a request's arrival to its answer's last word."""
    decode_s: float = 20.0
    """Time to read one image."""
    image_workers: int = 2
    """Processes that read images."""
    decoder_bytes: int = 4 * 2**30
    """Memory of each."""
    grace_s: float = 30.0
    """After SIGTERM, time to finish what is under way."""
    connections: int = 512

    max_body: int = 32 * MB
    """Bytes of a request that is no upload; images inside are a third longer there than on disk."""
    max_images: int = 8
    max_pixels: int = 100_000_000
    """Of images that must be decoded whole (PNG, JPEG, WebP ...); rasters with overviews need not."""
    max_text: int = 20_000
    """Characters of all messages together."""
    max_tokens: int = 1024
    """Longest answer."""

    max_file: int = 1024 * MB
    """Bytes of one uploaded file."""
    quota: int = 8 * 1024 * MB
    """Bytes of all uploaded files."""
    max_files: int = 1000
    file_ttl_s: float = 24 * 3600.0
    """How long an uploaded file is kept."""

    model: str | None = None
    """Whom whole scenes are asked of, as `lhrs.load` takes it."""
    device: str | None = None
    """See `model`."""
    scene_queue: int = 4
    """Whole scenes that wait for their turn; one more gets 429."""
    max_scenes: int = 50
    """Whole scenes whose results are kept."""
    scene_windows: int = 20_000
    """Windows of one scene."""
    scene_s: float = 3600.0
    """Time for one scene."""
