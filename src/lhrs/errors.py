"""Exceptions of lhrs. The command line prints their message in one line, without a traceback."""


class LHRSError(Exception):
    """Base of all exceptions of lhrs."""


class ConfigError(LHRSError, ValueError):
    """A run file or an option is wrong."""


class DataError(LHRSError):
    """A file is missing, broken or of another format than expected."""


class ImageError(DataError):
    """An image is missing or broken."""


class CheckpointError(LHRSError):
    """A checkpoint does not fit the model that it is loaded into."""


class ServerError(LHRSError):
    """A server does not respond, or its response is invalid."""


class MissingExtraError(LHRSError, ImportError):
    """An optional dependency of lhrs is not installed."""
