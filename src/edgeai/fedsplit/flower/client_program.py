"""The program of a device under Flower, the same for every method: one exchange per message.

A round stays in this process's memory between exchanges. If the next message reaches another process (Ray's actors,
Flower's deployment engine), the round is replayed there from the device's saved state and the messages of the round so
far, which Flower stores in the device's Context; the result is the same to the bit.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import ConfigRecord, Context, RecordDict

from edgeai.fedsplit.flower.device import NOTHING, DeviceFactory, DeviceRound, digest_of
from edgeai.fedsplit.flower.transport.packing import pack_message, unpack_message
from edgeai.fedsplit.flower.transport.stream_client import StreamClient, StreamEndpoint
from edgeai.fedsplit.flower.transport.wire_records import get_message, payload_bytes, put_message
from edgeai.fedsplit.protocol.devices import Answer
from edgeai.fedsplit.protocol.message import EMPTY, Message

SMALL_BYTES = 16_384
"""States up to this size are sent with every reply, which saves an exchange at the end of the round."""
END = "#end"
"""The op that ends a round; methods do not use this name."""
_KEPT, _AFTER, _LOG, _SEEN = "edgeai.kept", "edgeai.after", "edgeai.log", "edgeai.seen"
_ENDPOINT = ("token", "client", "attempt", "chunk_bytes", "silence_s", "root")


@dataclass
class Entry:
    """A round in the memory of this process."""

    key: tuple[str, int, int]
    """Run id, round number, attempt number."""
    num_done: int
    """Number of exchanges so far."""
    live: DeviceRound


class Program:
    """All devices of this process."""

    def __init__(self) -> None:
        self._factory: tuple[tuple[str, int], DeviceFactory] | None = None
        self._entries: dict[int, Entry] = {}
        self.num_replayed = 0
        """Number of exchanges that were replayed."""

    def exchange(self, records: RecordDict, context: Context) -> RecordDict:
        """Answer one message of the server."""
        wire, words = get_message(records, "ask")
        if _is_late(context, words):
            return _status(words, "late")
        if not _select_state(context, records, words):
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
        """Run a whole round over a gRPC stream."""
        _, words = get_message(records, "ask")
        words["number"] = 0
        if _is_late(context, words):
            return _status(words, "late")
        if not _select_state(context, records, words):
            return _status(words, "stale")
        named = {name: words[name] for name in _ENDPOINT}
        stream = StreamClient(
            StreamEndpoint(words["address"], **named), self.wake(context, words), END, payload_bytes(records)
        )
        if not stream.serve():
            return _status(words, "late")
        assert stream.blob is not None
        context.state[_AFTER] = ConfigRecord({"blob": stream.blob})
        return _status(words, "ok")

    def factory(self, text: str, threads: int) -> DeviceFactory:
        """Return the factory of a run's devices; the last one is cached."""
        if self._factory is None or self._factory[0] != (text, threads):
            self._entries.clear()
            self._factory = ((text, threads), DeviceFactory(text, threads))
        return self._factory[1]

    def wake(self, context: Context, words: dict[str, Any]) -> DeviceRound:
        """Return a device at the start of a round."""
        factory = self.factory(words["config"], words["threads"])
        blob = context.state[_KEPT]["blob"] if _KEPT in context.state else NOTHING
        return DeviceRound(factory, words["client"], words["round"], words["positions"], blob)

    def _awake(self, context: Context, words: dict[str, Any]) -> Entry | None:
        """Return the device's round with all earlier exchanges done, or None if they cannot be replayed."""
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
    """Return whether a later attempt was seen before; attempts are numbered over the whole run."""
    seen = context.state.get(_SEEN)
    if seen is not None and seen["run"] == words["run"] and words["attempt"] < seen["attempt"]:
        return True
    context.state[_SEEN] = ConfigRecord({"run": words["run"], "attempt": words["attempt"]})
    return False


def _select_state(context: Context, records: RecordDict, words: dict[str, Any]) -> bool:
    """Select the saved state that the server expects; return whether it is available."""
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
