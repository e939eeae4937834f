"""`edgeai config`, with a schema of its own."""

import json
from typing import Annotated, Literal

import pytest
from pydantic import Field

from edgeai.cli import main
from edgeai.commands import config
from edgeai.core.config import Config, load_config, shipped_configs, verb_of


class Chain(Config):
    """A row of nodes."""

    kind: Literal["chain"] = "chain"
    length: int = Field(3, ge=1, le=9)
    """Nodes."""


class Fan(Config):
    kind: Literal["fan"] = "fan"


class Salt(Config):
    """How salty."""

    grams: float = 1.5


class Cook(Config):
    verb: Literal["kitchen cook"] = "kitchen cook"
    dish: str
    """What to
    cook."""
    shape: Annotated[Chain | Fan, Field(discriminator="kind")] = Chain()
    salt: Salt = Salt()
    tags: tuple[str, ...] = ()
    heat: float | Literal["auto"] = "auto"


@pytest.fixture
def cook(monkeypatch, tmp_path):
    monkeypatch.setattr(config, "schemas", lambda: {"kitchen cook": Cook})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text("verb: kitchen cook\ndish: stew\n")
    (tmp_path / "bad.yaml").write_text("verb: kitchen cook\ndsh: stew\n")
    (tmp_path / "other.yaml").write_text("verb: kitchen cok\n")
    (tmp_path / "none.yaml").write_text("dish: stew\n")


def test_show_gives_the_whole_config(cook, capsys):
    assert main(["config", "show", "good.yaml", "-s", "shape.length=4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == Cook(dish="stew", shape=Chain(length=4)).model_dump(mode="json")


def test_show_prints_yaml_that_loads_back(cook, capsys, tmp_path):
    assert main(["config", "show", "good.yaml"]) == 0
    (tmp_path / "again.yaml").write_text(capsys.readouterr().out)
    assert load_config(Cook, tmp_path / "again.yaml") == Cook(dish="stew")


def test_check_goes_through_all_files(cook, capsys):
    assert main(["config", "check", "good.yaml", "bad.yaml"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "good.yaml: valid, for edgeai kitchen cook",
        "bad.yaml: dish: the key is required",
        'bad.yaml:2: dsh: unknown key; did you mean "dish"?',
    ]
    assert main(["config", "check", "good.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"config": "good.yaml", "verb": "kitchen cook", "problems": []}]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("other.yaml", 'other.yaml: no verb "kitchen cok" takes a config'),
        ("none.yaml", "none.yaml: verb: the key is required"),
        ("missing.yaml", 'no config "missing.yaml": neither a file nor a shipped name'),
    ],
)
def test_check_json_on_failure(cook, capsys, name, problem):
    assert main(["config", "check", name, "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == [{"config": name, "verb": None, "problems": [problem]}]


def test_schema_lists_every_key(cook, capsys):
    assert main(["config", "schema", "kitchen", "cook"]) == 0
    rows = [line.split(maxsplit=1)[0] for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        "key",
        "verb",
        "dish",
        "shape",
        "shape(chain).kind",
        "shape(chain).length",
        "shape(fan).kind",
        "salt",
        "salt.grams",
        "tags",
        "heat",
    ]


def test_schema_rows_say_type_default_and_meaning():
    rows = {row[0]: row[1:] for row in config.key_rows(Cook.model_json_schema())}
    assert rows["dish"] == ["string", "(required)", "What to cook."]
    assert rows["shape"] == ["chain | fan", "chain", ""]
    assert rows["shape(chain).length"] == ["integer >= 1 and <= 9", "3", "Nodes."]
    assert rows["salt"] == ["group", "", "How salty."]
    assert rows["salt.grams"] == ["number", "1.5", ""]
    assert rows["tags"] == ["[string, ...]", "[]", ""]
    assert rows["heat"] == ["number | auto", "auto", ""]


def test_schema_of_an_unknown_verb(cook, capsys):
    assert main(["config", "schema", "kitchen", "cok"]) == 2
    assert capsys.readouterr().err == (
        'edgeai: no verb "kitchen cok" takes a config\n  hint: did you mean "kitchen cook"?\n'
    )


def test_verbs_and_schemas_agree():
    assert all(verb_of(schema) == verb for verb, schema in config.schemas().items())


def test_shipped_configs_are_fine_and_say_how_to_run_them(capsys):
    names = list(shipped_configs())
    assert names
    assert main(["config", "check", *names]) == 0
    capsys.readouterr()
    assert main(["config", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == names
    for row in rows:
        assert f"edgeai {row['verb']} -c {row['name']}" in row["about"]
