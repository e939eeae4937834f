"""The ClientApp of every run.

`program()` is created on first use and lives as long as its process. The deployment engine starts a process per
message, and a process that only reports its client number need not load torch.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

if TYPE_CHECKING:
    from edgeai.fedsplit.flower.client_program import Program

app = ClientApp()


@cache
def program() -> Program:
    """Return the device program of this process."""
    from edgeai.fedsplit.flower.client_program import Program

    return Program()


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Report the client number of this node."""
    partition = int(context.node_config.get("partition-id", -1))
    return Message(RecordDict({"hello": ConfigRecord({"client": partition})}), reply_to=message)


@app.train("exchange")
def exchange(message: Message, context: Context) -> Message:
    """Process one exchange of a round."""
    return Message(program().exchange(message.content, context), reply_to=message)


@app.train("round")
def round_(message: Message, context: Context) -> Message:
    """Run a whole round over a gRPC stream."""
    return Message(program().round(message.content, context), reply_to=message)
