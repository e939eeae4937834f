"""Errors a person can act on. Everything else that is raised is a bug and keeps its traceback."""


class EdgeAIError(Exception):
    """Work that cannot go on, in one line, with a hint that says what to do next.

    Args:
        message: What is wrong; names the file, key or value.
        hint: The next command or change, or "" when there is none.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(EdgeAIError):
    """Asked wrongly: the same call can never work on any machine."""

    exit_code = 2
