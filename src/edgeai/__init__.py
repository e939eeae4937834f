"""Speculative decoding, edge-cloud collaboration and split federated learning in one toolkit.

The Python API of each area is a package: `from edgeai import spec, collab, fedsplit`. Calls print nothing. Progress
goes to the callback `on_progress`, notes to the logger "edgeai". Errors that the caller can fix are raised as
`EdgeAIError`; its subclass `UsageError` means that the call itself is wrong.
"""

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.python_api.progress import Progress

__version__ = "0.2.0"
__all__ = ["EdgeAIError", "Progress", "UsageError", "__version__"]
