"""What can go wrong, by who can fix it. The command line prints these in one line, without a traceback."""


class LHRSError(Exception):
    """Base of every error that we raise on purpose."""


class ConfigError(LHRSError, ValueError):
    """The run file or a flag is wrong: the user edits it."""


class DataError(LHRSError):
    """A file is missing, broken or not what it claims to be."""


class CheckpointError(LHRSError):
    """A checkpoint does not fit the model that should receive it."""


class ServerError(LHRSError):
    """A server that was asked does not answer, or not as it must."""


class MissingExtraError(LHRSError, ImportError):
    """An optional part of lhrs is not installed."""
