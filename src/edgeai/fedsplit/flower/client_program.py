"""What runs on a device under Flower: one exchange a message, the same program for every method.

A round lives in this process's memory between exchanges. Where the next message finds another process (Ray's actors,
Flower's deployment engine), the round is played again from what the device kept and the messages of the round so far,
which Flower stores in the device's Context; what comes of it is the same to the bit.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import ConfigRecord, Context, RecordDict

from edgeai.fedsplit.flower.device import NOTHING, LiveRound, Workshop, digest_of
from edgeai.fedsplit.flower.transport.packing import pack_message, unpack_message
from edgeai.fedsplit.flower.transport.stream_client import Meeting, StreamClient
from edgeai.fedsplit.flower.transport.wire_records import get_message, payload_bytes, put_message
from edgeai.fedsplit.protocol.devices import Answer
from edgeai.fedsplit.protocol.message import EMPTY, Message

SMALL_BYTES = 16_384
"""A blob up to here goes with every reply, which saves an exchange at the round's end."""
END = "#end"
"""Ends a round; no method's op has this name."""
_KEPT, _AFTER, _LOG, _SEEN = "edgeai.kept", "edgeai.after", "edgeai.log", "edgeai.seen"
_MEETING = ("token", "client", "attempt", "chunk_bytes", "silence_s", "root")


@dataclass
class Entry:
    """A round in this process's memory."""

    key: tuple[str, int, int]
    """Run, round, attempt."""
    num_done: int
    """Exchanges so far."""
    live: LiveRound


class Program:
    """All devices that have run in this process."""

    def __init__(self) -> None:
        self._workshop: tuple[tuple[str, int], Workshop] | None = None
        self._entries: dict[int, Entry] = {}
        self.num_replayed = 0
        """Exchanges that were played again."""

    def exchange(self, records: RecordDict, context: Context) -> RecordDict:
        """Answers one message of the server."""
        wire, words = get_message(records, "ask")
        if _is_late(context, words):
            return _status(words, "late")
        if not _bring(context, records, words):
            return _status(words, "stale")
        entry = self._awake(context, words)
        if entry is None:
            return _status(words, "lost")
        if words["op"] == END:
            said: list[Answer] = []
        else:
            said = list(entry.live.exchange(words["op"], wire))
        entry.num_done += 1
        if words["log"]:
            _write_log(context, words, wire)
        return self._reply(context, records, words, entry, said)

    def round(self, records: RecordDict, context: Context) -> RecordDict:
        """Plays a whole round over a stream of its own."""
        _, words = get_message(records, "ask")
        words["number"] = 0
        if _is_late(context, words):
            return _status(words, "late")
        if not _bring(context, records, words):
            return _status(words, "stale")
        named = {name: words[name] for name in _MEETING}
        stream = StreamClient(
            Meeting(words["address"], **named), self.wake(context, words), END, payload_bytes(records)
        )
        if not stream.serve():
            return _status(words, "late")
        assert stream.blob is not None
        context.state[_AFTER] = ConfigRecord({"blob": stream.blob})
        return _status(words, "ok")

    def workshop(self, text: str, threads: int) -> Workshop:
        """Of a run; the last one is kept."""
        if self._workshop is None or self._workshop[0] != (text, threads):
            self._entries.clear()
            self._workshop = ((text, threads), Workshop(text, threads))
        return self._workshop[1]

    def wake(self, context: Context, words: dict[str, Any]) -> LiveRound:
        """A device at the beginning of a round."""
        workshop = self.workshop(words["config"], words["threads"])
        blob = context.state[_KEPT]["blob"] if _KEPT in context.state else NOTHING
        return LiveRound(workshop, words["client"], words["round"], words["positions"], blob)

    def _awake(self, context: Context, words: dict[str, Any]) -> Entry | None:
        """The device's round, with all exchanges before this one done; None where that cannot be had."""
        client, key = words["client"], (words["run"], words["round"], words["attempt"])
        entry = self._entries.get(client)
        if entry is not None and entry.key == key and entry.num_done == words["number"]:
            return entry
        logged = _read_log(context, key, words["number"])
        if logged is None:
            return None
        entry = self._entries[client] = Entry(key, 0, self.wake(context, words))
        for op, wire in logged:
            for _ in entry.live.exchange(op, wire):
                pass
            entry.num_done += 1
            self.num_replayed += 1
        return entry

    def _reply(
        self, context: Context, records: RecordDict, words: dict[str, Any], entry: Entry, said: Sequence[Answer]
    ) -> RecordDict:
        out = RecordDict()
        for number, answer in enumerate(said):
            put_message(out, f"say{number}", answer.wire or EMPTY, flops=answer.flops, none=answer.wire is None)
        blob = entry.live.blob()
        peak_bytes, held_bytes = entry.live.memory_bytes
        is_sent = words["op"] == END or words["single"] or len(blob) <= SMALL_BYTES
        if is_sent:
            context.state[_AFTER] = ConfigRecord({"blob": blob})
            out["after"] = ConfigRecord({"blob": blob})
        out["reply"] = ConfigRecord(
            {
                "status": "ok",
                "round": words["round"],
                "attempt": words["attempt"],
                "number": words["number"],
                "num_answers": len(said),
                "peak_bytes": peak_bytes,
                "held_bytes": held_bytes,
                "received_bytes": payload_bytes(records),
                "replayed": self.num_replayed,
                "pid": os.getpid(),
                "sent_bytes": 0,
            }
        )
        out["reply"]["sent_bytes"] = payload_bytes(out)
        return out


def _is_late(context: Context, words: dict[str, Any]) -> bool:
    """Whether a later attempt at a round was seen already; attempts are counted through a run."""
    seen = context.state.get(_SEEN)
    if seen is not None and seen["run"] == words["run"] and words["attempt"] < seen["attempt"]:
        return True
    context.state[_SEEN] = ConfigRecord({"run": words["run"], "attempt": words["attempt"]})
    return False


def _bring(context: Context, records: RecordDict, words: dict[str, Any]) -> bool:
    """Makes what the device kept be what the server expects, if that is at hand."""
    wanted = words["kept"]
    found = {name: context.state[name]["blob"] for name in (_KEPT, _AFTER) if name in context.state}
    if "kept" in records:
        found["sent"] = records["kept"]["blob"]
    found["nothing"] = NOTHING
    for blob in found.values():
        if digest_of(blob) == wanted:
            context.state[_KEPT] = ConfigRecord({"blob": blob})
            return True
    return False


def _write_log(context: Context, words: dict[str, Any], wire: Message) -> None:
    if words["number"] == 0:
        for name in [name for name in context.state if name.startswith(_LOG)]:
            del context.state[name]
        context.state[_LOG] = ConfigRecord({"run": words["run"], "round": words["round"], "attempt": words["attempt"]})
    context.state[f"{_LOG}.{words['number']}"] = ConfigRecord({"packed": pack_message(wire, op=words["op"])})


def _read_log(context: Context, key: tuple[str, int, int], num_wanted: int) -> list[tuple[str, Message]] | None:
    if num_wanted == 0:
        return []
    head = context.state.get(_LOG)
    if head is None or (head["run"], head["round"], head["attempt"]) != key:
        return None
    logged = []
    for number in range(num_wanted):
        if f"{_LOG}.{number}" not in context.state:
            return None
        wire, words = unpack_message(context.state[f"{_LOG}.{number}"]["packed"])
        logged.append((words["op"], wire))
    return logged


def _status(words: dict[str, Any], status: str) -> RecordDict:
    return RecordDict(
        {
            "reply": ConfigRecord(
                {
                    "status": status,
                    "round": words["round"],
                    "attempt": words["attempt"],
                    "number": words["number"],
                }
            )
        }
    )
