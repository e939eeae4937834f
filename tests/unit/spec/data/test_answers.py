"""What the target writes: batches against one by one, sampling against the exact distribution, files against kills."""

import gzip
import json
import math
from dataclasses import replace

import pytest
import torch

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.train import DataConfig
from edgeai.spec.data import answers, training_prompts
from edgeai.spec.data.answers import write_conversations
from edgeai.spec.data.batch_decoding import DecodeJob, decode_jobs
from edgeai.spec.data.conversation import Conversation, check_answers, load_conversations
from edgeai.spec.data.prompts import Prompt

QUIET = Metrics(None)
PROMPT = tuple(b"u:hello\na:")


def _decode(target, jobs, batch):
    found = {}
    decode_jobs(target, jobs, batch=batch, on_done=lambda job, new: found.__setitem__(job.key, list(new)))
    return found


def _next_logits(target, ids):
    """Logits after the last token, from a whole forward pass without any cache."""
    _, hidden = target.features(torch.tensor([ids]))
    return target.lm_head @ hidden[0, -1]


def _greedy(target, ids, max_new):
    ids, new = list(ids), []
    while len(new) < max_new and (not new or new[-1] not in target.tokenizer.eos_ids):
        new.append(int(_next_logits(target, ids + new).argmax()))
    return new


@pytest.fixture
def chatty(make_hf, make_target):
    """A target of its own, whose end tokens a test may choose."""
    return make_target(make_hf())


def _jobs(temperatures, *, max_new=None):
    """Eleven jobs of different prompts and lengths."""
    return [
        DecodeJob(
            n,
            (*PROMPT, *range(20, 20 + 3 * n)),
            max_new or 3 + 5 * (n % 4),
            temperatures[n % len(temperatures)],
            (9, n),
        )
        for n in range(11)
    ]


def _set_eos(target, ids):
    tokenizer = type(target.tokenizer)()
    tokenizer.eos_ids = frozenset(ids)
    target.tokenizer = tokenizer


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_greedy_batches_equal_decoding_without_a_cache(chatty, batch):
    """With end tokens that stop some of the texts early and others not."""
    texts = {job.key: _greedy(chatty, job.prompt, job.max_new) for job in _jobs([0.0])}
    _set_eos(chatty, {texts[3][1], texts[9][2]})
    expected = {job.key: _greedy(chatty, job.prompt, job.max_new) for job in _jobs([0.0])}
    assert {len(expected[job.key]) == job.max_new for job in _jobs([0.0])} == {True, False}
    assert _decode(chatty, _jobs([0.0]), batch) == expected


def test_a_text_does_not_depend_on_its_batch(target):
    """Temperatures mixed in one batch: as many places as jobs, three places, each alone, and another order."""
    jobs = _jobs([0.0, 0.7, 1.3])
    expected = _decode(target, jobs, 64)
    assert _decode(target, jobs, 3) == expected
    assert _decode(target, jobs[::-1], 3) == expected
    for job in jobs:
        assert _decode(target, [job], 1) == {job.key: expected[job.key]}


def test_seed_decides_the_draws(target):
    job = DecodeJob(0, PROMPT, 24, 1.0, (1, 2))
    first = _decode(target, [job], 1)
    assert _decode(target, [job], 1) == first
    assert _decode(target, [replace(job, seed=(1, 3))], 1) != first


def test_no_jobs_no_work(target):
    assert _decode(target, [], 4) == {}


def _chi_square_bound(freedom: int) -> float:
    """Exceeded with probability below 1e-6 (Laurent and Massart 2000: k + 2 sqrt(k x) + 2 x with x = -ln 1e-6)."""
    x = -math.log(1e-6)
    return freedom + 2 * math.sqrt(freedom * x) + 2 * x


def _chi_square(counts, probs, total) -> tuple[float, int]:
    """Statistic and degrees of freedom; cells expected fewer than five times are one cell."""
    pairs = [(counts.get(cell, 0), total * p) for cell, p in probs.items()]
    rare = [pair for pair in pairs if pair[1] < 5]
    cells = [pair for pair in pairs if pair[1] >= 5]
    if sum(expected for _, expected in rare) >= 5:
        cells.append((sum(count for count, _ in rare), sum(expected for _, expected in rare)))
    return sum((count - expected) ** 2 / expected for count, expected in cells), len(cells) - 1


def _joint(target, ids, temperature):
    """Exact probability of every continuation of two tokens, or one where it ends the text."""
    first = (_next_logits(target, ids) / temperature).softmax(0)
    probs = {}
    for a, p in enumerate(first.tolist()):
        if a in target.tokenizer.eos_ids:
            probs[(a,)] = p
        else:
            second = (_next_logits(target, [*ids, a]) / temperature).softmax(0)
            probs |= {(a, b): p * q for b, q in enumerate(second.tolist())}
    return probs


@pytest.mark.parametrize(("temperature", "other"), [(1.0, 0.7), (0.7, 1.0)])
def test_sampling_follows_the_distribution(small_vocab_target, temperature, other):
    """Two tokens from twelve; false alarm below 1e-6. The same counts refute another temperature."""
    target, ids, total = small_vocab_target, [3, 1, 4, 1, 5], 1500
    found = _decode(target, [DecodeJob(n, tuple(ids), 2, temperature, (0, n)) for n in range(total)], 50)
    counts = {}
    for text in found.values():
        counts[tuple(text)] = counts.get(tuple(text), 0) + 1
    statistic, freedom = _chi_square(counts, _joint(target, ids, temperature), total)
    assert freedom >= 6
    assert statistic < _chi_square_bound(freedom)
    statistic, freedom = _chi_square(counts, _joint(target, ids, other), total)
    assert statistic > _chi_square_bound(freedom)


# ----------------------------------------------------------------------------------------------------------------------
# Conversations


def _write_turns(path, conversations):
    path.write_text("".join(json.dumps({"turns": turns}) + "\n" for turns in conversations))
    return str(path)


def _config(*prompts, **changes):
    values = {"max_answer_tokens": 8, "max_len": 100, "batch": 4}
    return DataConfig(prompts=prompts, **{**values, **changes})


def _write(target, config, path, *, seed=0, metrics=QUIET):
    return write_conversations(target, config, path=path, seed=seed, metrics=metrics)


def test_a_conversation_of_several_turns(target, tmp_path):
    """Answers keep the ids written by the target; between them stands what the template says."""
    prompts = _write_turns(tmp_path / "p.jsonl", [["first", "second", "third"], ["only"]])
    three, one = _write(target, _config(prompts, temperatures=(0.0,)), tmp_path / "answers.jsonl")
    encode = target.tokenizer.encode
    ids = encode("u:first\na:")
    for turn in ("second", "third", None):
        answer = _greedy(target, ids, 8)
        assert list(three.ids[len(ids) : len(ids) + len(answer)]) == answer
        assert (len(ids), len(ids) + len(answer)) in three.answers
        ids += answer
        if turn:
            ids += encode(f"\nu:{turn}\na:")
    assert list(three.ids) == ids
    assert len(three.answers) == 3
    assert list(one.ids[: one.answers[0][0]]) == encode("u:only\na:")
    assert one.num_answer_tokens == len(one.ids) - one.answers[0][0]


class ClosingTokenizer:
    """Turns end in "#", which is also the end token; an answer that nothing follows yet is shown with its thoughts."""

    eos_ids = frozenset({ord("#")})

    def encode(self, text):
        return [ord(char) for char in text]

    def encode_raw(self, text):
        return self.encode(text)

    def encode_chat(self, text):
        return self.encode(text)

    def decode(self, ids, *, keep_special=False):
        return "".join(map(chr, ids)).replace("#", "")

    def render(self, messages, *, open_answer):
        text = ""
        for number, message in enumerate(messages):
            thoughts = "(hm)" if message["role"] == "assistant" and number == len(messages) - 1 else ""
            text += f"{message['role'][0]}:{thoughts}{message['content'].strip()}#\n"
        return text + ("a:" if open_answer else "")


@pytest.mark.parametrize(("answer", "closing"), [("yes#", "\n"), ("cut sh", "#\n")], ids=["ended", "cut"])
def test_the_turn_after_an_answer(answer, closing):
    """A template's end of turn is written once, by the target or for it, and templates may rewrite the last answer."""
    tokenizer = ClosingTokenizer()
    asked = tokenizer.encode("u:why#\na:")
    ids = (*asked, *tokenizer.encode(answer))
    conversation = Conversation("c", ids, ((len(asked), len(ids)),), 0.0)
    found = answers._next_prompt(tokenizer, conversation, Prompt("p:1", "p", ("why", "and then")), 1)
    assert "".join(map(chr, found)) == f"u:why#\na:{answer}{closing}u:and then#\na:"


def test_the_system_prompt_opens_every_conversation():
    tokenizer = ClosingTokenizer()
    empty = Conversation("c", (), (), 0.0)
    found = answers._next_prompt(tokenizer, empty, Prompt("p:1", "p", ("why",), system="be brief"), 0)
    assert "".join(map(chr, found)) == "s:be brief#\nu:why#\na:"


def test_turns_that_might_not_fit_are_left_out(target, tmp_path):
    """ "u:" + 20 + "\na:" are 25 tokens, an answer up to 8, the next turn as many: 33 fit, 66 do not."""
    prompts = _write_turns(tmp_path / "p.jsonl", [["x" * 20, "y" * 20], ["z" * 90]])
    found = _write(target, _config(prompts, max_len=40), tmp_path / "answers.jsonl")
    assert [len(c.answers) for c in found] == [1]
    assert all(len(c.ids) <= 40 for c in found)
    with pytest.raises(UsageError, match="no prompt leaves room for an answer") as caught:
        _write(target, _config(prompts, max_len=16), tmp_path / "none.jsonl")
    assert caught.value.hint == "raise data.max_len (16) or lower data.max_answer_tokens (8)"


def test_max_len_beyond_the_model(target, tmp_path):
    prompts = _write_turns(tmp_path / "p.jsonl", [["x"]])
    with pytest.raises(UsageError) as caught:
        _write(target, _config(prompts, max_len=161), tmp_path / "answers.jsonl")
    assert caught.value.message == "data.max_len 161 exceeds the 160 tokens that tiny allows"
    found = _write(target, _config(prompts, max_len=160, max_answer_tokens=154), tmp_path / "answers.jsonl")
    assert len(found[0].ids) == 160


def test_temperatures_take_turns(target, tmp_path):
    prompts = _write_turns(tmp_path / "p.jsonl", [["a"], ["b"], ["c"]])
    found = _write(target, _config(prompts, temperatures=(0.0, 1.0)), tmp_path / "answers.jsonl")
    assert [c.temperature for c in found] == [0.0, 1.0, 0.0]
    for c in found[::2]:
        assert list(c.ids[c.answers[0][0] :]) == _greedy(target, c.ids[: c.answers[0][0]], 8)


def test_files_of_one_name_in_two_folders(target, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    names = [_write_turns(tmp_path / name / "p.jsonl", [[name], [name * 2]]) for name in "ab"]
    found = _write(target, _config(*names, max_prompts=1), tmp_path / "answers.jsonl")
    assert len({c.id for c in found}) == 2
    assert [target.tokenizer.decode(c.ids[2:3]) for c in found] == ["a", "b"]
    assert len(load_conversations(tmp_path / "answers.jsonl")) == 2


class _Interrupt:
    """A listener like Ctrl-C after some finished conversations."""

    def __init__(self, after):
        self.after = after

    def on_progress(self, task, done, total, *, unit, fields):
        if (task, done) == ("answers", self.after):
            raise KeyboardInterrupt

    def on_note(self, text): ...
    def on_log(self, step, values): ...


@pytest.mark.parametrize("tear", [False, True], ids=["interrupted", "killed while writing a line"])
def test_interrupted_writing_goes_on_to_the_same_text(target, tmp_path, tear):
    """Some conversations have two turns; temperatures 0 and 1; another batch size after the interruption."""
    turns = [[f"question {n}"] + ["and?"] * (n % 2) for n in range(9)]
    prompts = _write_turns(tmp_path / "p.jsonl", turns)
    whole = _write(target, _config(prompts), tmp_path / "whole.jsonl")
    path = tmp_path / "answers.jsonl"
    with pytest.raises(KeyboardInterrupt):
        _write(target, _config(prompts), path, metrics=Metrics(None, listener=_Interrupt(5)))
    assert len(load_conversations(path)) == 5
    if tear:
        path.write_bytes(path.read_bytes()[:-20])
        assert len(load_conversations(path)) == 4
    before = path.read_bytes()
    assert _write(target, _config(prompts, batch=3), path) == whole
    kept = before[: before.rfind(b"\n") + 1]
    assert kept
    assert path.read_bytes().startswith(kept)
    assert sorted(c.id for c in load_conversations(path)) == sorted(c.id for c in whole)


def test_a_finished_file_is_taken_as_it_is(target, tmp_path, monkeypatch):
    prompts = _write_turns(tmp_path / "p.jsonl", [["a"], ["b"]])
    whole = _write(target, _config(prompts), tmp_path / "answers.jsonl")
    monkeypatch.setattr(answers, "decode_jobs", lambda *_, **__: pytest.fail("decoded again"))
    assert _write(target, _config(prompts), tmp_path / "answers.jsonl") == whole
    assert load_conversations(tmp_path / "answers.jsonl") == whole


@pytest.mark.parametrize("name", ["answers.jsonl", "answers.jsonl.gz"])
def test_bytes_that_are_not_utf8_are_named_by_line(tmp_path, name):
    good = Conversation("é", (1, 2), ((0, 1),), 0.0).to_json().encode()
    bad = good.replace(b"\\u00e9", b"\xe9")
    assert bad != good
    path = tmp_path / name
    pack = gzip.compress if name.endswith(".gz") else bytes
    path.write_bytes(pack(good + b"\n" + bad + b"\n"))
    with pytest.raises(UsageError) as caught:
        load_conversations(path)
    assert caught.value.message == f"{path}:2: the text is not UTF-8 (byte 0xe9)"
    path.write_bytes(pack(good + b"\n" + bad))  # the incomplete last line of a killed run
    assert [c.id for c in load_conversations(path)] == ["é"]


def test_disk_full_keeps_what_was_written(target, tmp_path, monkeypatch):
    prompts = _write_turns(tmp_path / "p.jsonl", [["a"], ["b"], ["c"]])
    path = tmp_path / "answers.jsonl"
    real_open = type(path).open
    calls = []

    def full(self, mode="r", **kwargs):
        calls.append(mode)
        if self == path and mode == "a" and calls.count("a") == 2:
            raise OSError(28, "No space left on device")
        return real_open(self, mode, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "open", full)
        with pytest.raises(EdgeAIError) as caught:
            _write(target, _config(prompts), path)
    assert caught.value.message == f"cannot write {path}: No space left on device"
    assert caught.value.hint == "free some space, then continue with --resume"
    assert len(load_conversations(path)) == 1
    assert _write(target, _config(prompts), path) == _write(target, _config(prompts), tmp_path / "whole.jsonl")


# ----------------------------------------------------------------------------------------------------------------------
# Files of others

GOOD = '{"id": "a", "temperature": 0.0, "answers": [[1, 3]], "ids": [5, 6, 7]}'


def test_conversation_reads_back(tmp_path):
    conversation = Conversation("a\nb", (3, 1, 2, 9), ((1, 2), (3, 4)), 0.7)
    (tmp_path / "f").write_text(conversation.to_json() + "\n")
    assert load_conversations(tmp_path / "f") == [conversation]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "Expecting property name"),
        (b"[1, 2]", "list indices must be integers"),
        (b'{"id": "a", "temperature": 0.0, "ids": [1]}', "'answers'"),
        (b'{"id": "a", "temperature": 0.0, "ids": ["x"], "answers": []}', "invalid literal"),
        (
            b'{"id": "a", "temperature": 0.0, "ids": [1, 2], "answers": [[1, 3]]}',
            "an answer is outside the 2 tokens",
        ),
        (
            b'{"id": "a", "temperature": 0.0, "ids": [1, 2], "answers": [[1, 1]]}',
            "an answer is outside the 2 tokens",
        ),
    ],
    ids=["json", "list", "field", "ids", "beyond", "empty answer"],
)
def test_a_line_that_is_no_conversation(tmp_path, line, problem):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(GOOD.encode() + b"\n" + line + b"\n" + GOOD.encode() + b"\n")
    with pytest.raises(UsageError) as caught:
        load_conversations(path)
    assert caught.value.message.startswith(f"{path}:2: not a conversation: {problem}")


def test_no_answers_file(tmp_path):
    with pytest.raises(UsageError) as caught:
        load_conversations(tmp_path / "none.jsonl")
    assert caught.value.message == f"no such answers file: {tmp_path / 'none.jsonl'}"


def test_text_of_another_target(target, tmp_path):
    path = tmp_path / "f"
    check_answers(path, [Conversation("a", (0, 127), (), 0.0), Conversation("b", (), (), 0.0)], target)
    with pytest.raises(UsageError) as caught:
        check_answers(path, [Conversation("a", (0, 128), (), 0.0)], target)
    assert caught.value.message == f"{path}: a contains token 128, tiny has 128 tokens"
    with pytest.raises(UsageError) as caught:
        check_answers(path, [Conversation("a", (1,) * 161, (), 0.0)], target)
    assert caught.value.message == f"{path}: a has 161 tokens, tiny allows 160"


# ----------------------------------------------------------------------------------------------------------------------
# Prompts by the target itself


class PromptingTokenizer(ClosingTokenizer):
    """User turns are open after "u:"; one token of sixteen ends a text."""

    eos_ids = frozenset(range(0, 128, 16))


def _self_config(**changes):
    values = {"self_prompt": 24, "max_answer_tokens": 8, "max_len": 100, "batch": 8, "temperatures": (1.0,)}
    return DataConfig(**{**values, **changes})


def test_self_prompts(chatty, tmp_path):
    """The target continues its template's open user turn; short, unfinished and repeated ones are gone."""
    chatty.tokenizer = PromptingTokenizer()
    found = _write(chatty, _self_config(), tmp_path / "answers.jsonl")
    lines = (tmp_path / "prompts.jsonl").read_text().splitlines()
    texts = [json.loads(line)["turns"][0] for line in lines]
    assert 3 <= len(texts) == len(found) < 24
    assert len(set(texts)) == len(texts)
    assert min(map(len, texts)) >= training_prompts.MIN_PROMPT_CHARS
    opening = tuple(b"u:")
    by_key = _decode(
        chatty, [DecodeJob(n, opening, 82, training_prompts.PROMPT_TEMPERATURE, (0, n, 1 << 20)) for n in range(24)], 1
    )
    written = [chatty.tokenizer.decode(new).strip() for new in by_key.values() if new[-1] in chatty.tokenizer.eos_ids]
    assert texts == [text for text in dict.fromkeys(written) if len(text) >= 8]
    asked = [chatty.tokenizer.decode(c.ids[: c.answers[0][0]]) for c in found]
    assert asked == [f"u:{text}\na:" for text in texts]
    # the prompts are kept: a second call writes nothing new
    assert _write(chatty, _self_config(), tmp_path / "answers.jsonl") == found


def test_self_prompts_and_no_usable_one(target, tmp_path):
    """Two tokens of room are too few for any prompt, and a target that never ends a prompt has written none."""
    with pytest.raises(UsageError) as caught:
        _write(target, _self_config(max_len=24, max_answer_tokens=12), tmp_path / "answers.jsonl")
    assert caught.value.message == "data.max_len 24 leaves no room for prompts in addition to answers of 12"
    with pytest.raises(UsageError, match="the target generated no usable prompt"):
        _write(target, _self_config(max_len=34, self_prompt=2), tmp_path / "answers.jsonl")
    assert not (tmp_path / "prompts.jsonl").exists()


def test_a_gzipped_file_reads_like_the_plain_one_and_garbage_is_refused(tmp_path):
    conversation = Conversation("a", (1, 2, 3, 4), ((2, 4),), 0.0)
    packed = tmp_path / "answers.jsonl.gz"
    packed.write_bytes(gzip.compress((conversation.to_json() + "\n").encode()))
    assert load_conversations(packed) == [conversation]
    packed.write_bytes(b"garbage")
    with pytest.raises(UsageError, match=r"^cannot read .*answers\.jsonl\.gz: "):
        load_conversations(packed)
