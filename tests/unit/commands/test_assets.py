import json

from edgeai.cli import main
from edgeai.core import assets
from edgeai.core.assets import Asset, PypiMember


def put_in_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEAI_CACHE", str(tmp_path))
    source = PypiMember("thing", "1.0", "", 1, "thing/model.gguf", "")
    monkeypatch.setattr(assets, "ASSETS", {"thing": Asset("thing", source, 2_000_000, "MIT", "a thing")})
    path = tmp_path / "assets" / "thing" / "model.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 2_000_000)
    return path


def test_cached_asset(monkeypatch, tmp_path, capsys):
    path = put_in_cache(monkeypatch, tmp_path)
    for verb in ("where", "fetch"):
        assert main(["assets", verb, "thing"]) == 0
        assert capsys.readouterr().out == f"{path}\n"
        assert main(["assets", verb, "thing", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"name": "thing", "path": str(path)}


def test_list(monkeypatch, tmp_path, capsys):
    path = put_in_cache(monkeypatch, tmp_path)
    assert main(["assets", "list", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["name"], row["size_bytes"], row["path"]) == ("thing", 2_000_000, str(path))
    path.unlink()
    assert main(["assets", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["thing", "2", "MB", "MIT", "no", "a", "thing"]


def test_asset_that_is_not_cached(monkeypatch, tmp_path, capsys):
    put_in_cache(monkeypatch, tmp_path).unlink()
    assert main(["assets", "where", "thing"]) == 1
    assert capsys.readouterr().err == "edgeai: thing is not in the cache\n  hint: edgeai assets fetch thing\n"
