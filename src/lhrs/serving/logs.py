"""Logs as JSON lines on stderr."""

import json
import logging
import sys
import time
from typing import Any

logger = logging.getLogger("lhrs.serving")
_RESERVED = "lhrs_fields"


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {"time": f"{stamp}.{int(record.msecs):03d}Z", "level": record.levelname.lower()}
        line["event"] = record.getMessage()
        line.update(getattr(record, _RESERVED, {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log(event: str, level: int = logging.INFO, exc_info: BaseException | None = None, **fields: Any) -> None:
    """Write one line; fields that are None are omitted."""
    kept = {name: value for name, value in fields.items() if value is not None}
    logger.log(level, event, exc_info=exc_info, extra={_RESERVED: kept})


def configure_logging() -> None:
    """Write our logs and those of uvicorn to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    for name, level in (("lhrs.serving", logging.INFO), ("uvicorn.error", logging.WARNING), ("asyncio", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
