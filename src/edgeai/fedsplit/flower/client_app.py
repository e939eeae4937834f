"""The ClientApp of every run.

`program()` lasts as long as its process, because Flower finds it by its module. It is made when it is first needed: the
deployment engine starts a process for every message, and who only says its name needs no torch.
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
    """This process's."""
    from edgeai.fedsplit.flower.client_program import Program

    return Program()


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Says which client this node is."""
    partition = int(context.node_config.get("partition-id", -1))
    return Message(RecordDict({"hello": ConfigRecord({"client": partition})}), reply_to=message)


@app.train("exchange")
def exchange(message: Message, context: Context) -> Message:
    """One exchange of a round."""
    return Message(program().exchange(message.content, context), reply_to=message)


@app.train("round")
def round_(message: Message, context: Context) -> Message:
    """A round over a stream of its own."""
    return Message(program().round(message.content, context), reply_to=message)
