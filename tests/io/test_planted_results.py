"""Results that somebody else has put in place: not believed, and read within limits."""

import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from planted_net import TARGET, planted_net

from badnet_defense.benchmarking import model_list
from badnet_defense.benchmarking.audit import VERDICT, audit
from badnet_defense.errors import InputError
from badnet_defense.io import records as results
from badnet_defense.io import sealing
from badnet_defense.io.records import own_bytes, own_result, read_figures, write_json
from badnet_defense.nets import save_net
from badnet_defense.report import tables
from badnet_defense.scan.progress import Progress
from badnet_defense.workflows.scanned import SCAN, found_triggers, is_whole, triggers_shown

RESULT = {"schema": 1, "accuracy": 0.25, "net": {"file": "é\udc80.h5"}, "flagged": [1, 2]}


@pytest.fixture
def user(monkeypatch):
    """A function that makes this process another user's: their key lies in another folder."""

    def become(state):
        monkeypatch.setenv("XDG_STATE_HOME", str(state))
        results._tell_unsealed.cache_clear()

    yield become
    sealing._key_in.cache_clear()


# The key -----------------------------------------------------------------------------------------


def test_a_key_is_made_once_and_only_its_user_can_read_it(tmp_path, user):
    user(tmp_path)
    first = sealing.seal("a", b"content")
    key = tmp_path / "badnet_defense/key"
    assert len(first) == 32 and key.stat().st_mode & 0o777 == 0o600
    assert len(key.read_bytes()) == 32 and os.listdir(key.parent) == ["key"]
    sealing._key_in.cache_clear()  # the next run
    assert sealing.is_sealed("a", b"content", first)
    assert not sealing.is_sealed("a", b"contents", first)
    assert not sealing.is_sealed("b", b"content", first)
    assert not sealing.is_sealed("a", b"content", b"")
    user(tmp_path / "other")
    assert not sealing.is_sealed("a", b"content", first)


@pytest.mark.parametrize("spoil", ["short", "readable", "link"])
def test_what_is_no_key_is_replaced(spoil, tmp_path, user, caplog):
    user(tmp_path)
    first = sealing.seal("a", b"content")
    key, victim = tmp_path / "badnet_defense/key", tmp_path / "victim"
    victim.write_bytes(key.read_bytes())
    if spoil == "short":
        key.write_bytes(b"")
    elif spoil == "readable":
        key.chmod(0o644)
    else:
        key.unlink()
        key.symlink_to(victim)
    sealing._key_in.cache_clear()
    assert not sealing.is_sealed("a", b"content", first)
    assert "no key that only you can read" in caplog.text and victim.exists()
    assert not key.is_symlink() and key.stat().st_mode & 0o777 == 0o600


def test_without_a_place_for_a_key_work_is_done_anew(tmp_path, user, caplog, monkeypatch):
    monkeypatch.setattr(sealing, "user_temp_dir", lambda: Path("/proc/no"))
    user("/proc/no")
    write_json(tmp_path / "a.json", RESULT, sealed="scan")
    assert own_result(tmp_path / "a.json", "scan") == {}
    assert caplog.text.count("no place to keep a key") == 1
    progress = Progress(tmp_path / "p", {})
    progress.keep("first", {"mask": np.zeros(3)})
    assert progress.stored("first") is None
    monkeypatch.setattr(sealing, "user_temp_dir", lambda: tmp_path)
    sealing._key_in.cache_clear()  # beside the temporary files there is one
    assert sealing.seal("a", b"") and (tmp_path / "key").exists()


# Results of one's own ----------------------------------------------------------------------------


def test_a_sealed_result_is_read_back_and_a_changed_one_is_not(tmp_path, user, caplog):
    user(tmp_path / "state")
    path = tmp_path / "out/a.json"
    write_json(path, RESULT, sealed="scan")
    assert own_result(path, "scan") == RESULT
    text = path.read_text()
    path.write_text(json.dumps(json.loads(text)))  # other blanks, the same values
    assert own_result(path, "scan") == RESULT and not caplog.records
    for other in (text.replace("0.25", "0.75"), text.replace("[1, 2]", "[1]"), "{", "[]", "0" * 99):
        path.write_text(other)
        assert own_result(path, "scan") == {}
    assert caplog.text.count("do not bear your seal") == 1  # once for a folder
    path.write_text(text)
    assert own_result(path, "verdict") == {}
    path.rename(tmp_path / "moved.json")
    path.symlink_to(tmp_path / "moved.json")
    assert own_result(path, "scan") == {}
    user(tmp_path / "another state")
    assert own_result(tmp_path / "moved.json", "scan") == {}
    assert own_result(tmp_path / "absent.json", "scan") == {}


def test_a_changed_comment_in_the_code_makes_nothing_anew(tmp_path, monkeypatch):
    write_json(tmp_path / "a.json", RESULT, sealed="scan")
    Progress(tmp_path / "p", {"net": 1}).keep("first", {"mask": np.zeros(3)})
    monkeypatch.setattr(results, "code_sha256", lambda: "other")
    assert own_result(tmp_path / "a.json", "scan") == RESULT
    assert Progress(tmp_path / "p", {"net": 1}).stored("first")["mask"].tolist() == [0, 0, 0]


def test_a_result_of_another_schema_is_made_anew(tmp_path, monkeypatch):
    write_json(tmp_path / "a.json", RESULT, sealed="scan")
    monkeypatch.setattr(results, "SCHEMA", 2)
    assert own_result(tmp_path / "a.json", "scan") == {}


def test_what_lies_beside_a_result_is_that_of_its_run(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"abc")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    assert own_bytes(path, abc) == b"abc"
    path.write_bytes(b"abd")
    with pytest.raises(InputError, match="not the file that its run has written"):
        own_bytes(path, abc)


# Figures that a user names -----------------------------------------------------------------------

FIGURES = {"schema": 1, "bad": {"clean_test": {"accuracy": 0.5, "accuracy_interval": [0.4, 0.6]}}}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"schema": 1, "bad": {"clean_test": {"accuracy": 1e999}}}',
        '{"schema": 1, "bad": {"clean_test": {"accuracy": NaN}}}',
        '{"schema": 1, "bad": {"clean_test": {"accuracy": "a"}}}',
        '{"schema": 1, "bad": {"clean_test": {"accuracy": true}}}',
        '{"schema": 1, "bad": {"clean_test": {"accuracy": %s}}}' % ("9" * 400),
        '{"schema": 1, "bad": {"clean_test": {"accuracy": %s}}}' % ("9" * 5000),
        '{"schema": 1, "bad": {"clean_test": {"accuracy_interval": [1]}}}',
        '{"schema": 1, "bad": {"clean_test": 3}}',
        '{"schema": 1, "bad": 3}',
        '{"schema": 1, "bad": {}, "net": 3}',
        '{"schema": 1, "bad": {}, "net": {"file": 3}}',
        '{"schema": 1, "bad": {}, "data": []}',
        '{"schema": 1, "bad": {}, "data": {"poisoned": {"file": []}}}',
        '{"schema": 1}',
        '{"schema": 1, "bad": {}, "x": [' + "[]," * 2_100_000 + "0]}",
    ],
    ids=lambda text: text[:60],
)
def test_what_is_no_table_of_figures(text, tmp_path):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match=r"r\.json: "):
        tables.summary_table([read_figures(tmp_path / "r.json")])


def test_figures_are_read_from_anybody_and_through_a_link(tmp_path, monkeypatch):
    write_json(tmp_path / "r.json", FIGURES)
    (tmp_path / "link.json").symlink_to(tmp_path / "r.json")
    assert "50.0" in tables.summary_table([read_figures(tmp_path / "link.json")])
    monkeypatch.setattr(results, "MAX_RESULT_SIZE", 10)
    with pytest.raises(InputError, match="larger than"):
        read_figures(tmp_path / "r.json")
    assert tuple(tables.STAGES) == results.STAGES and tuple(tables._MEASURES) == results.MEASURES


# Scans and audits --------------------------------------------------------------------------------


def bomb(path):
    """An `.npz` of 200 kB that unpacks to 200 MB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("finished", "masks", "patterns"):
            with io.BytesIO() as member:
                np.save(member, np.zeros(25_000_000 // 3, np.float64))
                archive.writestr(f"{name}.npy", member.getvalue())


def test_another_s_unit_is_no_unit(tmp_path, monkeypatch):
    progress = Progress(tmp_path / "p", {"net": 1})
    progress.keep("first", {"mask": np.arange(3)})
    shutil.copy(tmp_path / "p/first.npz", tmp_path / "p/second.npz")  # of another name
    np.savez(tmp_path / "p/third.npz", mask=np.zeros(3))
    bomb(tmp_path / "p/fourth.npz")
    (tmp_path / "p/fifth.npz").symlink_to(tmp_path / "p/first.npz")
    read = np.load
    monkeypatch.setattr(np, "load", lambda *one, **how: pytest.fail("it was read"))
    for name in ("second", "third", "fourth", "fifth"):
        assert progress.stored(name) is None
    monkeypatch.setattr(np, "load", read)
    assert progress.stored("first")["mask"].tolist() == [0, 1, 2]
    (tmp_path / "p/scan.json").write_text('{"depends_on": ' + "[" * 200_000)
    (tmp_path / "p/notes.txt").write_text("somebody's")
    again = Progress(tmp_path / "p", {"net": 1})
    assert again.stored("first") is None
    again.forget()  # what is no unit is not removed
    assert os.listdir(tmp_path / "p") == ["notes.txt"]


@pytest.fixture
def audited(tmp_path, short_scans, zoo_folder):
    """A function that audits a net with a backdoor; gives its result."""
    save_net(planted_net(), tmp_path / "net.h5")
    suspect = model_list.AuditItem("net", tmp_path / "net.h5", zoo_folder / "unlabelled.h5")
    return lambda: audit([suspect], out=tmp_path / "out")[0]


def test_a_forged_verdict_does_not_stand(audited, tmp_path, monkeypatch):
    first = audited()
    path = tmp_path / "out/nets/net.json"
    forged = json.loads(path.read_text())
    for change in (
        {"verdict": "clean", "targets": [], "flagged": []},
        {"largest_index": "a", "classes": [], "seconds": {}, "input_shape": 3, "targets": 7},
        {"seal": "0" * 64, "reason": "all is well"},
    ):
        path.write_text(json.dumps({**forged, **change}))
        again = audited()
        assert (again["verdict"], again["targets"]) == ("backdoored", [TARGET])
    assert {**again, "seconds": 0} == {**first, "seconds": 0}
    before = path.read_bytes()
    assert audited() == own_result(path, VERDICT) and path.read_bytes() == before


def test_planted_files_of_a_scan(audited, tmp_path, monkeypatch):
    sha256 = audited()["net"]["sha256"]
    stem, secret = tmp_path / "out/scans/net", tmp_path / "secret.txt"
    secret.write_text("secret")
    whole = {ending: Path(f"{stem}.{ending}").read_bytes() for ending in ("npz", "triggers.png")}
    assert is_whole(stem, sha256) and triggers_shown(stem, sha256) == whole["triggers.png"]
    assert not is_whole(stem, "0" * 64) and triggers_shown(stem, "0" * 64) is None
    Path(f"{stem}.triggers.png").unlink()
    Path(f"{stem}.triggers.png").symlink_to(secret)
    assert triggers_shown(stem, sha256) is None and not is_whole(stem, sha256)
    bomb(f"{stem}.npz")
    with monkeypatch.context() as patch:
        patch.setattr(np, "load", lambda *one, **how: pytest.fail("it was read"))
        with pytest.raises(InputError, match="not what a scan of yours wrote"):
            found_triggers(stem)
    assert audited()["verdict"] == "backdoored"  # and its files are made anew
    assert is_whole(stem, sha256) and secret.read_text() == "secret"
    assert Path(f"{stem}.npz").stat().st_size < 10**6
    assert own_result(f"{stem}.json", SCAN)["flagged"][0]["label"] == TARGET
    assert len(found_triggers(stem)) == 1


def test_the_seal_survives_what_json_can_hold(tmp_path):
    result = {"schema": 1, "a": [1e-300, -0.0, 2**53 + 1, 0.1 + 0.2], "b": "\u2028\x1b\n\udcff"}
    write_json(tmp_path / "a.json", result, sealed="x")
    assert own_result(tmp_path / "a.json", "x") == result
