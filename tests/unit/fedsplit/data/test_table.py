"""Tables, with every number computed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.data import CsvConfig
from edgeai.fedsplit.data.load import load_data

TRAIN = """\
age,city,size,class
10, ulm,1,yes
30,?,2,no
20,bern,1,yes
"""
TEST = """\
|a comment
city,age,size,class
rome,40,1,no.

ulm,20,2,yes.
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "train.csv").write_text(TRAIN)
    (tmp_path / "test.csv").write_text(TEST)
    return tmp_path


def config(files: Path, **keys: object) -> CsvConfig:
    plain = {"path": files / "train.csv", "test_path": files / "test.csv", "label": "class", "label_end": "."}
    return CsvConfig.model_validate({key: str(v) if isinstance(v, Path) else v for key, v in {**plain, **keys}.items()})


def test_numbers_are_standardised_and_categories_spread_out(files: Path) -> None:
    found = load_data(config(files, categorical=["size"]))
    assert found.name == "train"
    assert found.features == ("age", "city=?", "city=bern", "city=ulm", "size=1", "size=2")
    assert found.columns == ("age", "city", "city", "city", "size", "size")
    std = (200 / 3) ** 0.5  # of 10, 30, 20 around 20
    expected = [[-10 / std, 0, 0, 1, 1, 0], [10 / std, 1, 0, 0, 0, 1], [0, 0, 1, 0, 1, 0]]
    assert [pytest.approx(row, abs=1e-6) for row in expected] == found.train.x.tolist()
    assert [
        pytest.approx(row, abs=1e-6) for row in ([20 / std, 0, 0, 0, 1, 0], [0, 0, 0, 1, 0, 1])
    ] == found.test.x.tolist()
    assert found.classes == ("no", "yes")
    assert (found.train.y.tolist(), found.test.y.tolist()) == ([1, 0, 1], [0, 1])


def test_columns_can_be_dropped_or_tell_clients(files: Path) -> None:
    found = load_data(config(files, drop=["size"], groups="city"))
    assert found.columns == ("age",)
    assert found.group_names == ("?", "bern", "ulm")
    assert found.groups is not None
    assert found.groups.tolist() == [2, 0, 1]


def test_file_without_names(files: Path) -> None:
    lines = TRAIN.replace(",", ";").splitlines()[1:] * 4
    (files / "bare.data").write_text("\n".join(lines))
    keys = {"columns": ["age", "city", "size", "class"], "delimiter": ";", "test_path": None, "test_frac": 0.25}
    found = load_data(config(files, path=files / "bare.data", **keys))
    assert (len(found.train), len(found.test)) == (9, 3)
    assert found.test.y.tolist().count(1) == 2


@pytest.mark.parametrize(
    ("keys", "text", "hint"),
    [
        ({"label": "clas"}, '{train} has no "clas"',
         'did you mean "class"? set data.label to one of age, city, size, class'),
        ({"drop": ["town"]}, '{train} has no "town"', "set data.drop to one of age, city, size, class"),
        ({"columns": ["a", "b", "class"]}, "{train}:1: 4 values for 3 columns",
         "list all columns, in order, in data.columns"),
        ({"columns": ["a", "a", "b", "class"]}, '{train}: two columns are named "a"',
         "give unique names in data.columns"),
        ({"delimiter": ";"}, '{train} has no "class"', "set data.label to one of age,city,size,class"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit(files: Path, keys: dict[str, object], text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_data(config(files, **keys))
    assert caught.value.message == text.format(train=files / "train.csv")
    assert caught.value.hint == hint


def test_numbers_that_are_none(files: Path) -> None:
    (files / "test.csv").write_text(TEST.replace("40", "old"))
    with pytest.raises(UsageError) as caught:
        load_data(config(files))
    message = f'{files / "train.csv"}: column "age" holds "old" in its test rows, which is not a number'
    assert caught.value.message == message
    assert caught.value.hint == "correct it, or declare the column categorical: data.categorical=[age]"
    (files / "train.csv").write_text(TRAIN.replace("30", "nan"))
    with pytest.raises(UsageError) as caught:
        load_data(config(files))
    message = f'{files / "train.csv"}: column "age" holds "nan" in its rows, which is not a number'
    assert caught.value.message == message


def test_column_that_the_test_table_lacks(files: Path) -> None:
    (files / "test.csv").write_text(TEST.replace("size", "width"))
    with pytest.raises(UsageError) as caught:
        load_data(config(files))
    assert caught.value.message == f'{files / "test.csv"} has no column "size"'
