import pytest
import torch

from edgeai.core.metrics import Metrics
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.decoding import tree_tuning as tune_module
from edgeai.spec.decoding.costs import Costs
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.decoding.tree_tuning import (
    WIDE,
    WideDraft,
    candidates,
    choose_tree,
    draft_along_answers,
    predict_accept_lens,
    tune,
)
from edgeai.spec.draft.eagle3 import Eagle3
from edgeai.spec.draft.ngram import Ngram
from edgeai.spec.draft.tree import build_tree

GREEDY = SamplingConfig()
SILENT = Metrics(None)


def costs(verify_s: dict[int, float], level_s: float = 0.0) -> Costs:
    return Costs(verify_s=verify_s, draft_first_s={1: level_s}, draft_level_s={1: level_s}, commit_s=0.0)


def tree(nodes: int, depth: int = 1, top_k: int = 1) -> TreeConfig:
    return TreeConfig(nodes=nodes, depth=depth, top_k=top_k)


# accept_len of trees with this many nodes: 1.5, 1.8, 2.0, 2.4
ACCEPT_LENS = {tree(1): 1.5, tree(3, 2, 2): 1.8, tree(7, 3, 4): 2.0, tree(63, 6, 8): 2.4}


def test_flat_costs_take_the_largest_tree():
    """A GPU: 64 tokens cost what one costs. 2.4 / 10 beats every smaller tree."""
    choice = choose_tree(costs({1: 10.0, 64: 10.0}), ACCEPT_LENS)
    assert choice.tree == tree(63, 6, 8)
    assert choice.speedup == pytest.approx(2.4)


def test_rising_costs_take_a_small_tree():
    """T(n) = 10 + (n - 1): 1.5/11 = .136, 1.8/13 = .138, 2.0/17 = .118, 2.4/73 = .033 tokens per unit; plain 0.1."""
    choice = choose_tree(costs({1: 10.0, 64: 73.0}), ACCEPT_LENS)
    assert choice.tree == tree(3, 2, 2)
    assert choice.speedup == pytest.approx(1.8 / 13 * 10)


def test_deep_drafts_pay_for_their_levels():
    """As above with 2 per draft level: 1.5/13 = .115, 1.8/17 = .106, 2.0/23, 2.4/85."""
    assert choose_tree(costs({1: 10.0, 64: 73.0}, level_s=2.0), ACCEPT_LENS).tree == tree(1)


def test_a_step_at_two_tokens_is_jumped_over():
    """float32 kernels: T(1) = 10, then flat at 15. One node: 1.5/15 = plain's 0.1; seven: 2.0/15 = 0.133."""
    choice = choose_tree(costs({1: 10.0, 2: 15.0, 8: 15.0, 64: 60.0}), ACCEPT_LENS)
    assert choice.tree == tree(7, 3, 4)


def test_plain_decoding_wins_where_no_tree_pays():
    """T(n) = 10 n: best is 1.5/20 = 0.075 against 0.1."""
    choice = choose_tree(costs({1: 10.0, 64: 640.0}), ACCEPT_LENS)
    assert choice.tree is None
    assert choice.best == tree(1)
    assert choice.why == (
        "tree: auto: decoding plainly; the best tree (nodes 1, depth 1, top-k 1) is not worth it: 1.50 tokens per "
        "20000.0 ms cycle against one per 10000.0 ms, predicted ratio 0.75"
    )


def test_a_gain_within_the_margin_is_not_taken():
    assert choose_tree(costs({1: 1.0, 2: 1.0}), {tree(1): 1.04}).tree is None
    assert choose_tree(costs({1: 1.0, 2: 1.0}), {tree(1): 1.06}).tree == tree(1)
    assert choose_tree(costs({1: 1.0, 2: 1.0}), {tree(1): 1.06}, min_speedup=1.1).tree is None


def test_candidates_can_fill_their_nodes():
    shapes = candidates()
    assert len(shapes) == len(set(shapes)) > 100
    assert tree(3, 3, 1) in shapes
    assert tree(3, 2, 1) not in shapes  # a chain of depth 2 has two nodes
    assert all(
        shape.nodes <= WIDE.nodes and shape.depth <= WIDE.depth and shape.top_k <= WIDE.top_k for shape in shapes
    )


def test_a_narrower_tree_is_found_in_the_wide_one():
    #   0 -> 1 (-1)  -> 3 (-1.5) -> 5 (-1.6)
    #     -> 2 (-2)  -> 4 (-2.1)
    wide = build_tree([9, 1, 2, 3, 4, 5], [-1, 0, 0, 1, 2, 3], [0.0, -1.0, -2.0, -1.5, -2.1, -1.6])
    sight = WideDraft(wide, path=(2, 4))
    places = {depth: ranks for depth, ranks in sight.path_ranks(top_k=2) if depth <= 3}
    # order of confidence: 1, 3, 5, 2, 4; within depth 1: 1, 2; within depth 2: 1, 3, 2, 4
    assert places == {1: [1], 2: [2, 3], 3: [3, 4]}
    assert all(ranks == [] for _, ranks in sight.path_ranks(top_k=1))  # a chain would be 1, 3, 5


def test_a_narrower_tree_expands_fewer_nodes_of_each_level():
    #   0 -> 1 (-1) -> 3 (-1.1), 4 (-1.2)
    #     -> 2 (-2) -> 5 (-2.1) -> 6 (-2.2)
    wide = build_tree([9, 1, 2, 3, 4, 5, 6], [-1, 0, 0, 1, 1, 2, 5], [0.0, -1.0, -2.0, -1.1, -1.2, -2.1, -2.2])
    # with two per level, 3 and 4 are expanded and 5 is not: its child 6 would not be drawn
    assert dict(WideDraft(wide, path=(2, 5, 6)).path_ranks(top_k=2))[3] == [3, 4]
    assert dict(WideDraft(wide, path=(2, 5, 6)).path_ranks(top_k=3))[3] == [3, 4, 5]


@pytest.mark.parametrize("sampling", [GREEDY, SamplingConfig(temperature=1.0, seed=5)], ids=["greedy", "sampled"])
def test_replay_predicts_what_decoding_does(small_vocab_target, make_head, sampling):
    """The same cycles, tree by tree, up to the last positions, which draft_along_answers leaves out."""
    model, prompt = small_vocab_target, [5, 6, 7, 2]
    head = make_head(model, draft_vocab=10)
    records = draft_along_answers(
        model, Eagle3(head, model, name="x"), [prompt], sampling=sampling, max_tokens=120, metrics=SILENT
    )
    assert len(records[0]) > 60
    accept_lens = []
    for shape in (tree(1, 1, 1), tree(4, 4, 1), tree(5, 3, 2), tree(8, 3, 4), tree(20, 5, 4), tree(30, 4, 8)):
        predicted = predict_accept_lens(records, [shape])[shape]
        got = generate_ids(
            model,
            Eagle3(head, model, name="x"),
            prompt,
            tree=shape,
            sampling=sampling,
            max_tokens=120,
            context=160,
        )
        counts, emitted = [], 0
        for count in got.accept_counts:  # the cycles whose root draft_along_answers has seen
            if emitted >= len(records[0]):
                break
            counts.append(count)
            emitted += count
        assert predicted == pytest.approx(sum(counts) / len(counts))
        accept_lens.append(predicted)
    assert accept_lens == sorted(accept_lens)
    assert accept_lens[-1] > 1.5


def test_replay_of_prompt_lookup(small_vocab_target):
    model, prompt = small_vocab_target, [5, 6, 7, 2]
    drafter = Ngram(max_ngram=3, min_ngram=1)
    records = draft_along_answers(model, drafter, [prompt], sampling=GREEDY, max_tokens=120, metrics=SILENT)
    lens = predict_accept_lens(records, candidates())
    assert 1.0 <= min(lens.values()) < max(lens.values())


def test_no_text_predicts_plain_decoding(target, make_head):
    records = draft_along_answers(
        target, Eagle3(make_head(target), target, name="x"), [[5] * 155], sampling=GREEDY, max_tokens=9, metrics=SILENT
    )
    assert records == []
    assert set(predict_accept_lens(records, [tree(1)]).values()) == {1.0}


def test_measured_once_per_model_drafter_and_sampling(target, make_head, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEAI_CACHE", str(tmp_path))
    measured = []

    def measure(target, drafter):
        measured.append(drafter.name)
        return costs({1: 1.0, 64: 1.0})

    monkeypatch.setattr(tune_module, "measure_costs", measure)
    monkeypatch.setattr(tune_module, "_NUM_PROMPTS", 1)
    monkeypatch.setattr(tune_module, "_NUM_TOKENS", 12)

    def call(name: str, sampling: SamplingConfig = GREEDY):
        drafter = Eagle3(make_head(target), target, name=name)
        return tune(target, drafter, sampling=sampling, metrics=SILENT)

    first = call("a")
    assert call("a") == first
    assert call("a", SamplingConfig(seed=9)) == first
    assert measured == ["a"]
    call("b")
    call("a", SamplingConfig(temperature=1.0))
    assert measured == ["a", "b", "a"]
    for path in (tmp_path / "tune").iterdir():
        path.write_text(path.read_text()[:100])  # a damaged file is measured again
    assert call("a") == first
    assert measured == ["a", "b", "a", "a"]


def test_given_prompts_are_replayed_each_time(target, make_head, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEAI_CACHE", str(tmp_path))
    monkeypatch.setattr(tune_module, "measure_costs", lambda target, drafter: costs({1: 1.0, 64: 1.0}))
    drafter = Eagle3(make_head(target), target, name="a")
    choice = tune(target, drafter, sampling=GREEDY, metrics=SILENT, prompts=[[5, 6, 7]])
    assert choice.plain_s == 1.0
    assert not (tmp_path / "tune").exists()
    assert torch.is_inference_mode_enabled() is False


def test_a_cache_that_cannot_be_written_costs_only_the_next_run_time(target, make_head, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("EDGEAI_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(tune_module, "measure_costs", lambda target, drafter: costs({1: 1.0, 64: 1.0}))
    monkeypatch.setattr(tune_module, "_NUM_PROMPTS", 1)
    monkeypatch.setattr(tune_module, "_NUM_TOKENS", 12)
    assert tune(target, Eagle3(make_head(target), target, name="a"), sampling=GREEDY, metrics=SILENT).plain_s == 1.0
