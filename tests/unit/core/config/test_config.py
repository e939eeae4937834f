"""Configs: what a person reads when a file is wrong, and that what is written reads back."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from edgeai.core.config import Config, dump_config, load_config, shipped_configs, verb_of
from edgeai.core.errors import UsageError


class Chain(Config):
    kind: Literal["chain"] = "chain"
    length: int = Field(3, ge=1)


class Fan(Config):
    kind: Literal["fan"] = "fan"
    width: int = 2


class Optim(Config):
    lr: float = 1e-3
    """Step size."""
    betas: tuple[float, float] = (0.9, 0.95)


class Cook(Config):
    verb: Literal["kitchen cook"] = "kitchen cook"
    dish: str = "soup"
    steps: int = Field(10, ge=1)
    shape: Annotated[Chain | Fan, Field(discriminator="kind")] = Chain()
    heat: Optim | Literal["auto"] = "auto"
    optim: Optim = Optim()
    folder: Path | None = None
    tags: tuple[str, ...] = ()


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "cook.yaml"
        path.write_text(text)
        return path

    return write


def refusal(source, *overrides):
    with pytest.raises(UsageError) as caught:
        load_config(Cook, source, overrides)
    return str(caught.value).replace(f"{source}", "FILE"), caught.value.hint


def test_no_source_gives_the_defaults():
    assert load_config(Cook, None) == Cook()


def test_file_and_later_overrides_win(write):
    cfg = load_config(Cook, write("steps: 5\ndish: stew\n"), ["steps=6", "optim.lr=1e-4", "steps=7"])
    assert (cfg.steps, cfg.dish, cfg.optim.lr) == (7, "stew", 0.0001)


def test_override_of_one_key_keeps_the_siblings_defaults():
    assert load_config(Cook, None, ["shape.length=5"]).shape == Chain(length=5)
    assert load_config(Cook, None, ["optim.lr=1"]).optim == Optim(lr=1.0)


def test_override_of_the_kind_drops_the_other_kinds_keys(write):
    path = write("shape: {kind: chain, length: 7}\n")
    assert load_config(Cook, path, ["shape.kind=fan"]).shape == Fan()
    assert load_config(Cook, path, ["shape.kind=chain"]).shape == Chain(length=7)
    assert load_config(Cook, None, ["shape.kind=fan", "shape.width=5"]).shape == Fan(width=5)


def test_override_turns_a_word_into_a_group(write):
    assert load_config(Cook, write("heat: auto\n"), ["heat.lr=0.5"]).heat == Optim(lr=0.5)


@pytest.mark.parametrize(
    "cfg",
    [
        Cook(),
        Cook(dish="1e-4", tags=("off", "null", "007", "2024-01-01", "1:30", "", "=", "<<", "süß", "a: b # c", "x\ny")),
        Cook(optim=Optim(lr=float("inf"), betas=(1e-300, 0.1)), shape=Fan(width=-3), folder=Path("a b/c")),
        Cook(heat=Optim(lr=5e-05), steps=10**12),
    ],
)
def test_what_is_dumped_loads_back_identical(write, cfg):
    assert load_config(Cook, write(dump_config(cfg))) == cfg


def test_unknown_key_names_the_nearest_one(write):
    assert refusal(write("dish: stew\noptim:\n  lr: 1\n  beta: [1, 2]\n")) == (
        'FILE:4: optim.beta: unknown key; did you mean "betas"?',
        "see the keys: edgeai config schema kitchen cook",
    )


def test_unknown_key_in_a_variant_names_that_variants_keys(write):
    message, _ = refusal(write("shape: {kind: fan, widht: 1}\n"))
    assert message == 'FILE:1: shape.widht: unknown key; did you mean "width"?'


def test_unknown_key_like_nothing_suggests_nothing(write):
    assert refusal(write("qqq: 1\n"))[0] == "FILE:1: qqq: unknown key"


def test_all_problems_at_once_each_with_its_line(write):
    message, _ = refusal(write("steps: 0\nheat: {lt: 1}\nshape: {kind: chain, length: x}\n"), "optim.lr=hot")
    assert message.splitlines() == [
        "FILE has 4 problems:",
        "  FILE:1: steps: should be greater than or equal to 1 (got 0)",
        "  FILE:3: shape.length: should be a valid integer, unable to parse string as an integer (got 'x')",
        '  FILE:2: heat.lt: unknown key; did you mean "lr"?',
        "  --set: optim.lr: should be a valid number, unable to parse string as a number (got 'hot')",
    ]


def test_no_member_of_a_union_fits(write):
    message, _ = refusal(write("heat: 7\n"))
    assert message == "FILE:1: heat: should be a group of keys or should be 'auto' (got 7)"


def test_wrong_or_missing_tag(write):
    assert refusal(write("shape: {kind: cube}\n"))[0] == "FILE:1: shape: 'kind' should be 'chain', 'fan' (got 'cube')"
    assert refusal(write("shape: {width: 3}\n"))[0] == (
        "FILE:1: shape: unable to extract tag using discriminator 'kind'"
    )


def test_duplicate_keys_are_refused_with_the_second_ones_line(write):
    assert refusal(write("steps: 1\noptim: {lr: 1, lr: 2}\nsteps: 2\n")) == (
        "FILE has 2 problems:\n  FILE:2: optim.lr: the key is given twice\n  FILE:3: steps: the key is given twice",
        "keep one of the two",
    )


def test_config_of_another_verb_says_where_it_belongs(write):
    assert refusal(write("verb: kitchen bake\n")) == (
        'FILE is a config for "kitchen bake", not for "kitchen cook"',
        refusal(write("verb: kitchen bake\n"))[1],
    )
    assert refusal(write("verb: kitchen bake\n"))[1].startswith("run it with: edgeai kitchen bake -c ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n", "FILE:2: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("- 1\n- 2\n", "FILE: expected keys and values, found list"),
        ("just words\n", "FILE: expected keys and values, found str"),
    ],
)
def test_no_config_at_all(write, text, message):
    assert refusal(write(text))[0] == message


def test_binary_file(tmp_path):
    path = tmp_path / "cook.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert refusal(path)[0] == "cannot read FILE: it is not UTF-8 text"


def test_unknown_name():
    with pytest.raises(UsageError) as caught:
        load_config(Cook, "zzz")
    assert str(caught.value) == 'no config "zzz": neither a file nor a shipped name'
    assert caught.value.hint == "list them: edgeai config list"


def test_misspelt_shipped_name_is_guessed():
    name = next(iter(shipped_configs()))
    with pytest.raises(UsageError) as caught:
        load_config(Cook, name + "x")
    assert caught.value.hint == f'did you mean "{name}"? list them: edgeai config list'


@pytest.mark.parametrize("item", ["steps", "=3", "a..b=1", ".=1"])
def test_override_without_key_or_value(item):
    message, hint = refusal(None, item)
    assert message == f'--set "{item}": expected KEY=VALUE'
    assert hint == "for example --set optim.lr=3e-4"


def test_override_that_is_no_yaml():
    assert refusal(None, "tags=[a")[0] == '--set "tags=[a": the value is not valid YAML'


def test_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Cook().steps = 3


def test_attribute_docstring_is_the_help():
    assert Optim.model_json_schema()["properties"]["lr"]["description"] == "Step size."


def test_verb_of():
    assert (verb_of(Cook), verb_of(Optim)) == ("kitchen cook", "")
