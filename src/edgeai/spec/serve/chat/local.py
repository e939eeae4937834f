"""Chat with an engine in this process."""

from __future__ import annotations

import queue
from collections.abc import Generator, Sequence

from edgeai.core.errors import UsageError
from edgeai.spec.serve.chat.backend import AnswerEnd, SpeedMeter
from edgeai.spec.serve.client import ChatOptions, Message
from edgeai.spec.serve.engine.engine import Engine
from edgeai.spec.serve.engine.events import Cancelled, Done, Event, Failed, Text
from edgeai.spec.serve.http.errors import ApiError
from edgeai.spec.serve.http.jobs.request_jobs import chat_jobs
from edgeai.spec.serve.http.jobs.served_model import ServedModel
from edgeai.spec.serve.http.request_schema import ChatRequest


class LocalBackend:
    """Engine in this process; implements `ChatBackend`.

    Args:
        engine: Engine that is not started; the backend starts and closes it.
        served: The engine's model.
        options: Sampling options, answer length and system message.
    """

    def __init__(self, engine: Engine, served: ServedModel, options: ChatOptions) -> None:
        self._engine, self._served, self._options = engine, served, options
        self.name = served.name
        engine.start()

    def answer(self, messages: Sequence[Message], *, speculates: bool) -> Generator[Text | AnswerEnd]:
        """See `ChatBackend`."""
        body = self._options.body(self.name, messages, speculates=speculates)
        try:
            jobs = chat_jobs(self._served, ChatRequest.model_validate(body))
        except ApiError as error:
            raise UsageError(error.message, hint="begin a new conversation with /new") from error
        inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        (handle,) = self._engine.submit(jobs, [inbox.put])
        meter = SpeedMeter()
        try:
            while True:
                event = inbox.get()
                if isinstance(event, Text):
                    meter.add(event)
                    yield event
                elif isinstance(event, Done):
                    yield AnswerEnd(event.num_tokens, event.stats.accept_len, meter.tokens_per_s)
                    return
                elif isinstance(event, Failed):
                    raise event.error
                elif isinstance(event, Cancelled):
                    return
        finally:
            self._engine.cancel(handle)

    def close(self) -> None:
        """See `ChatBackend`."""
        self._engine.close()
