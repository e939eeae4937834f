"""The ClientApp of every run. `PROGRAM` lasts as long as its process, because Flower finds it by its module."""

from __future__ import annotations

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from edgeai.fedsplit.flower.client_program import Program

PROGRAM = Program()
app = ClientApp()


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Says which client this node is."""
    partition = int(context.node_config.get("partition-id", -1))
    return Message(RecordDict({"hello": ConfigRecord({"client": partition})}), reply_to=message)


@app.train("exchange")
def exchange(message: Message, context: Context) -> Message:
    """One exchange of a round."""
    return Message(PROGRAM.exchange(message.content, context), reply_to=message)


@app.train("round")
def round_(message: Message, context: Context) -> Message:
    """A round over a stream of its own."""
    return Message(PROGRAM.round(message.content, context), reply_to=message)
