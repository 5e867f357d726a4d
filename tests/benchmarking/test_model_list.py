"""Which nets an audit takes: folders, lists, names."""

import os
import re

import pytest

from badnet_defense.benchmarking.model_list import AuditItem, plain, read_model_list
from badnet_defense.errors import InputError
from badnet_defense.nets.input_range import InputRange


def test_lists(zoo_folder):
    (zoo_folder / "list.csv").write_text(
        "# suspects\n\nnets/planted.h5\nnets/small.h5, unlabelled.h5\n"
    )
    found = read_model_list(zoo_folder / "list.csv", zoo_folder / "clean.h5")
    assert found == [
        AuditItem("nets--planted.h5", zoo_folder / "nets/planted.h5", zoo_folder / "clean.h5"),
        AuditItem("nets--small.h5", zoo_folder / "nets/small.h5", zoo_folder / "unlabelled.h5"),
    ]
    (zoo_folder / "ranges.csv").write_text("nets/planted.h5,,0,255\n")
    (found,) = read_model_list(zoo_folder / "ranges.csv", zoo_folder / "clean.h5")
    assert found.input_range == InputRange(0, 255) and found.clean == zoo_folder / "clean.h5"
    one = read_model_list(zoo_folder / "nets/planted.h5", zoo_folder / "clean.h5")
    assert [suspect.name for suspect in one] == ["planted.h5"]


def test_results_and_clean_pictures_are_no_suspects(zoo_folder, tmp_path):
    for name in ("net.H5", "clean.h5", "out/repaired/a.h5"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = read_model_list(tmp_path, tmp_path / "clean.h5", out=tmp_path / "out")
    assert [suspect.name for suspect in found] == ["net.H5"]


@pytest.mark.parametrize(
    "name", ["a\x1b[31m.h5", "../../a.h5", "a$x^$b.h5", "\udcff.h5", "=1+1.h5", "x" * 250 + ".h5"]
)
def test_names_are_made_plain(name):
    found = plain(name)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,120}", found)
    assert plain("a--b.h5") != plain("a/b.h5")
    assert found != plain(name + "x") and plain("a/b-1.h5") == "a--b-1.h5"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it holds no models"),
        ("a.h5\n./a.h5\n", "a.h5 is listed twice"),
        ("a.h5,b.h5,c.h5", "expected MODEL or MODEL,CLEAN"),
        (",b.h5", "expected MODEL or MODEL,CLEAN"),
        (b"\xff\xfe\x00", "no list of models"),
        ("a.h5\0", "no list of models"),
        ("a.h5,clean.h5,1,0", "list.txt: .*expected two numbers"),
        ("a.h5,missing.h5", "missing.h5: no such file or folder"),
    ],
)
def test_lists_that_are_none(tmp_path, text, message):
    path = tmp_path / "list.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "clean.h5").touch()
    with pytest.raises(InputError, match=message):
        read_model_list(path, tmp_path / "clean.h5")


def test_a_list_without_end(tmp_path):
    (tmp_path / "list.txt").touch()
    os.truncate(tmp_path / "list.txt", 2**40)
    with pytest.raises(InputError, match="larger than 16 MB"):
        read_model_list(tmp_path / "list.txt", tmp_path)


def test_folders_that_are_none(tmp_path):
    with pytest.raises(InputError, match="no such folder or list"):
        read_model_list(tmp_path / "missing", "clean.h5")
    with pytest.raises(InputError, match="holds no models"):
        read_model_list(tmp_path, "clean.h5")
    (tmp_path / "net.h5").touch()
    with pytest.raises(InputError, match="it has no clean images"):
        read_model_list(tmp_path)
    with pytest.raises(InputError, match=r"clean\.h5: no such file or folder"):
        read_model_list(tmp_path, tmp_path / "clean.h5")
    (tmp_path / "out.h5").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="link out of"):
        read_model_list(tmp_path, "clean.h5")
