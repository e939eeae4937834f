"""Batched requests against plain decoding of each request alone."""

from __future__ import annotations

import random

import pytest
import torch

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.serve.engine.events import Cancelled, Done, Failed, Started, Text
from edgeai.spec.serve.engine.jobs import GenerationJob
from edgeai.spec.serve.engine.request_queue import EngineClosed, QueueFull
from edgeai.spec.serve.engine.tree_policy import Decision
from edgeai.spec.target.torch_runtime import DecoderTarget

TREE = TreeConfig(nodes=6, depth=3, top_k=3)
GREEDY = SamplingConfig()


def job(ids, **changes):
    return GenerationJob(prompt_ids=tuple(ids), **{"max_tokens": 20, "sampling": GREEDY, **changes})


def prompts(num, vocab=128, seed=0):
    rng = random.Random(seed)
    return [[rng.randrange(1, vocab) for _ in range(rng.randrange(3, 30))] for _ in range(num)]


def plain(target, ids, sampling=GREEDY, max_tokens=20):
    """Decode one prompt plainly."""
    answer = generate_ids(target, None, ids, tree=TREE, sampling=sampling, max_tokens=max_tokens, context=128)
    return answer.ids


class RandomTrees:
    """Policy with a different tree, or none, in every cycle."""

    largest = TreeConfig(nodes=8, depth=4, top_k=4)

    def __init__(self, seed):
        self._random = random.Random(seed)
        self.seen = []

    def choose(self, num_speculating, num_others):
        nodes = self._random.randrange(9)
        tree = TreeConfig(nodes=nodes, depth=self._random.randint(1, min(nodes, 4)), top_k=4) if nodes else None
        return Decision(tree if num_speculating else None, "fixed", 1.0, 1.0)

    def observe(self, tree, num_accepted):
        self.seen.append((tree, num_accepted))


@pytest.mark.parametrize("kind", ["eagle3", "ngram", "none"])
def test_greedy_texts_equal_plain_decoding_regardless_of_the_batch(small_vocab_target, make_engine, ask, finish, kind):
    target = small_vocab_target
    texts = prompts(7, vocab=12)
    lengths = [20, 3, 31, 1, 20, 2, 12]
    engine = make_engine(target, kind, num_slots=3)
    rng = random.Random(1)
    asked = []
    for ids, length in zip(texts, lengths, strict=True):  # requests start and end at different times
        asked.append(ask(engine, job(ids, max_tokens=length, speculates=rng.random() < 0.8)))
        for _ in range(rng.randrange(3)):
            engine.step()
    finish(engine, *asked)

    for ids, length, heard in zip(texts, lengths, asked, strict=True):
        assert heard.ids == plain(target, ids, max_tokens=length)
        assert isinstance(heard.events[0], Started)
        assert heard.end.reason == "length"
        assert heard.end.num_tokens == length
        assert heard.end.num_prompt_tokens == len(ids)
    assert engine.num_active == 0
    if kind == "eagle3":  # with twelve tokens even an untrained head is sometimes right; else nothing was tested
        assert sum(heard.end.stats.num_accepted for heard in asked) > 0


@pytest.mark.parametrize("num_tokens", [63, 64, 65, 90])
def test_the_head_keeps_the_last_pair_after_a_long_prompt(small_vocab_target, make_engine, ask, finish, num_tokens):
    """From 64 waiting features on, the head runs before a tree is requested; the next tree needs the last pair."""
    rng = random.Random(num_tokens)
    ids = [rng.randrange(1, 12) for _ in range(num_tokens)]
    engine = make_engine(small_vocab_target)
    heard = ask(engine, job(ids))
    finish(engine, heard)
    assert heard.ids == plain(small_vocab_target, ids)
    assert heard.end.stats.num_draft_tokens > 0


def test_changing_trees_do_not_change_tokens(small_vocab_target, make_engine, ask, finish):
    texts = prompts(6, vocab=12, seed=5)
    policy = RandomTrees(3)
    engine = make_engine(small_vocab_target, num_slots=4, policy=policy, tree=RandomTrees.largest, prompt_chunk=5)
    asked = [ask(engine, job(ids)) for ids in texts]
    finish(engine, *asked)
    assert [heard.ids for heard in asked] == [plain(small_vocab_target, ids) for ids in texts]
    assert {accepted for _, accepted in policy.seen} >= {0, 1}


def test_a_seed_gives_the_same_sample_alone_and_in_a_batch(small_vocab_target, make_engine, ask, finish):
    texts = prompts(5, vocab=12, seed=2)
    hot = [SamplingConfig(temperature=0.9, top_p=0.95, seed=seed) for seed in range(5)]
    engine = make_engine(small_vocab_target, num_slots=5)
    asked = [ask(engine, job(ids, sampling=sampling)) for ids, sampling in zip(texts, hot, strict=True)]
    finish(engine, *asked)
    for ids, sampling, heard in zip(texts, hot, asked, strict=True):
        assert heard.ids == plain(small_vocab_target, ids, sampling)
    assert len({heard.ids for heard in asked}) == 5


def test_the_end_token_ends_an_answer_inside_a_path(target, make_engine, ask, finish):
    """Token 0 ends the text; at least one of these answers ends early."""
    texts = prompts(12, seed=8)
    hot = SamplingConfig(temperature=1.5, seed=4)
    engine = make_engine(target, "ngram", num_slots=4)
    asked = [ask(engine, job(ids, sampling=hot, max_tokens=60)) for ids in texts]
    finish(engine, *asked)
    expected = [plain(target, ids, hot, max_tokens=60) for ids in texts]
    assert [heard.ids for heard in asked] == expected
    reasons = ["stop" if ids[-1] == 0 else "length" for ids in expected]
    assert [heard.end.reason for heard in asked] == reasons
    assert set(reasons) == {"stop", "length"}


def test_a_stop_text_across_tokens_ends_the_answer_before_it(small_vocab_target, make_engine, ask, finish):
    ids = prompts(1, vocab=12)[0]
    whole = plain(small_vocab_target, ids, max_tokens=40)
    text = "".join(map(chr, whole))
    stop = text[11:14]
    place = text.find(stop)
    for speculates in (True, False):
        engine = make_engine(small_vocab_target)
        heard = ask(engine, job(ids, max_tokens=40, stop=(stop,), speculates=speculates))
        finish(engine, heard)
        assert heard.text == text[:place]
        assert heard.end.reason == "stop"
        assert heard.end.num_tokens == place + 3  # usage counts up to the token that completes it


def test_penalties_and_bias_by_hand(small_vocab_target, make_engine, ask, finish):
    """The oracle changes the logits of a whole-text pass and takes the best token."""
    target = small_vocab_target
    ids = prompts(1, vocab=12)[0]
    text, counts = list(ids), [0] * 12
    for _ in range(15):
        _, hidden = target.features(torch.tensor([text]))
        logits = target.decoder.logits(hidden[0, -1])
        for token, count in enumerate(counts):
            logits[token] -= 0.7 * count + (0.4 if count else 0.0)
        logits[3] += 1.5
        token = int(logits.argmax())
        counts[token] += 1
        text.append(token)
    engine = make_engine(target)
    changes = {"frequency_penalty": 0.7, "presence_penalty": 0.4, "logit_bias": {3: 1.5}}
    heard = ask(engine, job(ids, max_tokens=15, **changes))
    finish(engine, heard)
    assert heard.ids == tuple(text[len(ids) :])
    assert heard.ids != plain(target, ids, max_tokens=15)
    assert heard.end.stats.num_steps > 0


def test_log_probabilities_are_those_of_a_pass_over_the_whole_text(small_vocab_target, make_engine, ask, finish):
    target = small_vocab_target
    ids = prompts(1, vocab=12)[0]
    engine = make_engine(target)
    heard = ask(engine, job(ids, num_logprobs=2, sampling=SamplingConfig(temperature=0.8, seed=1)))
    finish(engine, heard)
    _, hidden = target.features(torch.tensor([[*ids, *heard.ids]]))
    log_probs = target.decoder.logits(hidden[0]).log_softmax(-1)
    picks = [p.logprobs for e in heard.events if isinstance(e, Text) for p in e.pieces]
    assert [pick.token for pick in picks] == list(heard.ids)
    for place, pick in enumerate(picks, start=len(ids) - 1):
        best = log_probs[place].topk(2)
        assert pick.logprob == pytest.approx(float(log_probs[place, pick.token]), abs=2e-5)
        assert [token for token, _ in pick.top] == best.indices.tolist()
        assert [lp for _, lp in pick.top] == pytest.approx(best.values.tolist(), abs=2e-5)


@pytest.mark.parametrize("kind", ["eagle3", "ngram"])
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_log_probabilities_do_not_depend_on_speculation(
    small_vocab_target, make_engine, ask, finish, kind, temperature
):
    """Also at the end of the context, where the trees get shallower."""
    target = small_vocab_target
    ids = prompts(1, vocab=12)[0]
    context = target.shape.max_positions
    engine = make_engine(target, kind, context=context, tree=TreeConfig(nodes=10, depth=6, top_k=3))
    sampling = SamplingConfig(temperature=temperature, seed=3)
    heard = []
    for speculates in (True, False):
        asked = job(ids, num_logprobs=3, sampling=sampling, max_tokens=context - len(ids), speculates=speculates)
        heard.append(ask(engine, asked))
        finish(engine, heard[-1])
    drafted, plainly = ([p.logprobs for e in h.events if isinstance(e, Text) for p in e.pieces] for h in heard)
    assert heard[0].end.stats.num_accepted > 5
    assert heard[1].end.stats.num_steps == 0
    assert len(drafted) == context - len(ids)
    for one, other in zip(drafted, plainly, strict=True):
        assert one.token == other.token
        assert one.logprob == pytest.approx(other.logprob, abs=2e-5)
        assert [token for token, _ in one.top] == [token for token, _ in other.top]
        assert [lp for _, lp in one.top] == pytest.approx([lp for _, lp in other.top], abs=2e-5)


def test_the_next_turn_reuses_its_prefix(small_vocab_target, make_engine, ask, finish):
    target = small_vocab_target
    ids = prompts(1, vocab=12)[0]
    engine = make_engine(target, num_slots=2)
    first = ask(engine, job(ids, max_tokens=30))
    finish(engine, first)
    turn = [*ids, *first.ids, 5, 7, 1]
    second = ask(engine, job(turn))
    finish(engine, second)
    # the last token of the answer was never read; one more token is read again for the drafter
    assert len(ids) + 30 - 8 <= second.end.num_reused <= len(ids) + 28
    assert second.ids == plain(target, turn)
    assert second.end.stats.num_steps > 0


def test_a_shared_prefix_is_copied_from_an_occupied_slot(small_vocab_target, make_engine, ask, finish):
    rng = random.Random(4)
    shared = [rng.randrange(12) for _ in range(40)]
    engine = make_engine(small_vocab_target, num_slots=3)
    first = ask(engine, job([*shared, 1, 2], max_tokens=30))
    for _ in range(3):
        engine.step()
    others = [ask(engine, job([*shared, n, 3], speculates=n != 5)) for n in (4, 5)]
    finish(engine, first, *others)
    assert others[0].end.num_reused == 39
    assert others[1].end.num_reused == 40
    for heard, n in zip(others, (4, 5), strict=True):
        assert heard.ids == plain(small_vocab_target, [*shared, n, 3])
    assert first.ids == plain(small_vocab_target, [*shared, 1, 2], max_tokens=30)


def test_the_least_recently_used_slot_is_overwritten(small_vocab_target, make_engine, ask, finish):
    texts = prompts(3, vocab=12, seed=9)
    engine = make_engine(small_vocab_target, num_slots=2)
    for ids in texts:  # the third takes the slot of the first
        finish(engine, ask(engine, job(ids)))
    second = ask(engine, job([*texts[1], 3, 4]))
    finish(engine, second)
    assert second.end.num_reused >= len(texts[1]) - 1
    first = ask(engine, job([*texts[0], 3, 4]))
    finish(engine, first)
    assert first.end.num_reused <= 2


def test_a_cancelled_request_frees_its_slot_within_a_cycle(small_vocab_target, make_engine, ask, finish):
    engine = make_engine(small_vocab_target, num_slots=1)
    ids = prompts(2, vocab=12)
    first, second = ask(engine, job(ids[0], max_tokens=90)), ask(engine, job(ids[1]))
    for _ in range(3):
        engine.step()
    assert (engine.num_active, engine.num_waiting) == (1, 1)
    engine.cancel(first.handle)
    engine.step()
    assert isinstance(first.end, Cancelled)
    assert isinstance(second.events[0], Started)
    finish(engine, second)
    assert second.ids == plain(small_vocab_target, ids[1])


def test_a_cancelled_request_leaves_the_queue(small_vocab_target, make_engine, ask):
    engine = make_engine(small_vocab_target, num_slots=1)
    first = ask(engine, job([1, 2], max_tokens=90))
    engine.step()
    second = ask(engine, job([3, 4]))
    engine.cancel(second.handle)
    engine.step()
    assert isinstance(second.end, Cancelled)
    assert engine.num_waiting == 0
    assert first.end is None


def test_a_full_queue_rejects_all_or_none(small_vocab_target, make_engine, ask):
    engine = make_engine(small_vocab_target, num_slots=1, queue=2)
    ask(engine, job([1, 2], max_tokens=90))
    engine.step()
    ask(engine, job([1, 2]))
    with pytest.raises(QueueFull, match="the queue is full: 1 requests are waiting"):
        engine.submit([job([3])] * 2, [lambda event: None] * 2)
    assert engine.num_waiting == 1
    ask(engine, job([1, 2]))
    with pytest.raises(QueueFull):
        ask(engine, job([1, 2]))


def test_an_error_in_one_request_does_not_affect_the_others(small_vocab_target, make_engine, ask, finish, monkeypatch):
    """Errors of a listener and of a sampler; every slot becomes free and works afterwards."""
    target = small_vocab_target
    texts = prompts(4, vocab=12, seed=3)
    engine = make_engine(target, num_slots=4)
    asked = [ask(engine, job(ids, logit_bias={1: 0.0} if n == 1 else {})) for n, ids in enumerate(texts)]

    def broken_listener(event):
        raise OSError("disconnected")

    (broken_handle,) = engine.submit([job([5, 6])], [broken_listener])
    monkeypatch.setattr("edgeai.spec.serve.engine.sampler.RequestSampler._changed", lambda self, logits: 1 / 0)
    finish(engine, *asked)
    assert isinstance(asked[1].end, Failed)
    assert isinstance(asked[1].end.error, ZeroDivisionError)
    for n in (0, 2, 3):
        assert asked[n].ids == plain(target, texts[n])
    while engine.num_active or engine.num_waiting:
        engine.step()
    assert broken_handle.is_cancelled
    monkeypatch.undo()
    again = [ask(engine, job(ids)) for ids in texts]
    finish(engine, *again)
    assert [heard.ids for heard in again] == [plain(target, ids) for ids in texts]


def test_a_failing_pass_is_repeated_one_segment_at_a_time(small_vocab_target, make_engine, ask, finish, monkeypatch):
    texts = prompts(3, vocab=12, seed=6)
    real = DecoderTarget.run_segments

    def breaks_on_row_one(target, segments, cache):
        if any(segment.row == 1 for segment in segments):
            raise RuntimeError("bad row")
        return real(target, segments, cache)

    monkeypatch.setattr(DecoderTarget, "run_segments", breaks_on_row_one)
    engine = make_engine(small_vocab_target, num_slots=3)
    asked = [ask(engine, job(ids)) for ids in texts]
    finish(engine, *asked)
    assert [type(heard.end) for heard in asked] == [Done, Failed, Done]
    for n in (0, 2):
        assert asked[n].ids == plain(small_vocab_target, texts[n])


def test_the_thread_works_drains_and_closes(small_vocab_target, make_engine):
    import threading

    engine = make_engine(small_vocab_target, num_slots=2)
    engine.start()
    ids = prompts(5, vocab=12)
    over = [threading.Event() for _ in ids]
    heard = [[] for _ in ids]

    def listen(index):
        def on_event(event):
            heard[index].append(event)
            if isinstance(event, Done | Failed | Cancelled):
                over[index].set()

        return on_event

    engine.submit([job(text) for text in ids], [listen(i) for i in range(5)])
    engine.drain()
    with pytest.raises(EngineClosed, match="the server is shutting down"):
        engine.submit([job([1])], [lambda event: None])
    assert all(event.wait(30) for event in over)
    engine.close()
    for text, events in zip(ids, heard, strict=True):
        assert tuple(p.token for e in events if isinstance(e, Text) for p in e.pieces) == plain(
            small_vocab_target, text
        )


def test_closing_cancels_all_requests(small_vocab_target, make_engine):
    engine = make_engine(small_vocab_target, num_slots=1)
    heard = []
    engine.submit([job([1, 2], max_tokens=100)] * 3, [heard.append] * 3)
    engine.start()
    engine.close()
    assert sum(isinstance(event, Cancelled) for event in heard) == 3


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_native_runtime_serves_what_it_writes_alone_to_the_bit(native, make_engine, ask, finish, temperature):
    """Random trees, batches, prompt parts and reused prefixes, whatever the number of threads."""
    alone, shared = native("Q4_1", 1), list(range(40, 70))
    texts = [[*shared, *ids] if n % 3 == 0 else ids for n, ids in enumerate(prompts(9))]
    samplings = [SamplingConfig(temperature=temperature, seed=n) for n in range(len(texts))]
    for kind, threads in (("eagle3", 1), ("ngram", 2), ("none", 1)):
        policy = None if kind == "none" else RandomTrees(threads)
        engine = make_engine(native("Q4_1", threads), kind, num_slots=4, policy=policy, prompt_chunk=11)
        asked = [ask(engine, job(ids, sampling=each)) for ids, each in zip(texts, samplings, strict=True)]
        finish(engine, *asked)
        assert any(heard.end.num_reused for heard in asked)
        assert [heard.ids for heard in asked] == [plain(alone, *each) for each in zip(texts, samplings, strict=True)]


@pytest.mark.parametrize("kind", ["eagle3", "ngram"])
def test_native_log_probabilities_do_not_depend_on_speculation(native, make_engine, ask, finish, kind):
    """To the bit, up to the last token of the context."""
    target, ids = native("Q4_1", 1), prompts(1)[0]
    changes = {"num_logprobs": 5, "logit_bias": dict.fromkeys(target.tokenizer.eos_ids, -100.0)}
    heard = []
    for speculates in (True, False):
        engine = make_engine(target, kind, context=100, tree=TreeConfig(nodes=10, depth=6, top_k=3))
        heard.append(ask(engine, job(ids, max_tokens=100 - len(ids), speculates=speculates, **changes)))
        finish(engine, heard[-1])
    drafted, plainly = ([p.logprobs for e in h.events if isinstance(e, Text) for p in e.pieces] for h in heard)
    assert heard[0].end.stats.num_draft_tokens > 0
    assert heard[1].end.stats.num_draft_tokens == 0
    assert len(drafted) == 100 - len(ids)
    assert drafted == plainly


@pytest.mark.parametrize("kind", ["none", "eagle3"])
def test_prompt_log_probabilities(native, tiny_target, make_engine, ask, finish, kind):
    """Those of the native runtime with float32 weights are those of torch, however the prompt is divided."""
    ids = tuple(prompts(1)[0])
    job = GenerationJob(ids, max_tokens=4, sampling=SamplingConfig(), num_logprobs=2, echoes=True)
    found = []
    for target, chunk in ((tiny_target.with_aux_layers((1, 2, 3)), 64), (native("F32", 1), 3)):
        engine = make_engine(target, kind, num_slots=2, prompt_chunk=chunk)
        listening = [ask(engine, job), ask(engine, job)]
        finish(engine, *listening)
        pieces = [
            [piece for event in one.events if isinstance(event, Text) for piece in event.pieces] for one in listening
        ]
        assert [piece.token for piece in pieces[0]][: len(ids)] == list(ids)
        assert [piece.token for piece in pieces[0]] == [piece.token for piece in pieces[1]]
        assert pieces[0][0].logprobs is None
        assert listening[0].end.num_tokens == 4
        found.append([piece.logprobs.logprob for piece in pieces[0][1 : len(ids)]])
        assert found[-1] == pytest.approx([piece.logprobs.logprob for piece in pieces[1][1 : len(ids)]], abs=1e-5)
    assert found[0] == pytest.approx(found[1], abs=1e-3)  # float32 in another order of operations
