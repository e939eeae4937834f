"""Expected errors, which the user can resolve. Any other exception is a bug and keeps its traceback."""


class EdgeAIError(Exception):
    """An expected error: one line, and a hint with the next step.

    Args:
        message: Description of the problem that names the file, key or value.
        hint: Next command or change; "" if there is none.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(EdgeAIError):
    """A usage error: the same call fails on every machine."""

    exit_code = 2
