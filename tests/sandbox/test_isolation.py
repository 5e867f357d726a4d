"""Reading in a process of its own: the same results, and what a broken reader can't do."""

import os
import struct
from dataclasses import replace

import h5py
import numpy as np
import pytest
from directions import assert_directions, directions
from hostile_nets import same_net
from PIL import Image
from small_nets import images

from badnet_defense.errors import CodeInNetError, InputError, ReaderError
from badnet_defense.io import Dataset, read_image, read_images, write_challenge_h5
from badnet_defense.io.trigger_labels import read_trigger_labels
from badnet_defense.nets import read_net
from badnet_defense.sandbox import client as isolation


def test_files_are_the_same_read_elsewhere(h5, tmp_path, with_limits):
    data, labels = tmp_path / "data.h5", tmp_path / "labels.json"
    write_challenge_h5(data, replace(images(8), synthetic=True))
    labels.write_text("[true, false, true]")
    asked = {"shape": images(1).images.shape[1:], "classes": None}
    here = read_net(h5), read_images(data, **asked), read_trigger_labels(labels, 3)
    with_limits(isolate=True)
    there = read_net(h5), read_images(data, **asked), read_trigger_labels(labels, 3)
    assert same_net(there[0], here[0])
    np.testing.assert_array_equal(there[1].images, here[1].images)
    np.testing.assert_array_equal(there[1].labels, here[1].labels)
    assert (there[1].synthetic, there[1].source) == (here[1].synthetic, here[1].source)
    np.testing.assert_array_equal(there[2], here[2])


def test_refusals_and_notes_come_through(tmp_path, with_limits, caplog):
    with_limits(isolate=True)
    (tmp_path / "net.h5").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"neither an HDF5 file nor a .keras file"):
        read_net(tmp_path / "net.h5")
    Image.new("RGB", (20, 30), (9, 8, 7)).save(tmp_path / "one.png")
    found = read_images(tmp_path / "one.png", shape=(12, 10, 3))
    assert found.images.shape == (1, 12, 10, 3) and found.labels is None
    assert "resized from 30x20 to 12x10" in caplog.text


def test_a_text_that_claims_4_gb_ends_at_the_reader_s_limit(h5, with_limits):
    """The HDF5 library sets aside what a text claims before it looks for it."""
    with_limits(isolate=True)
    content = bytearray(h5.read_bytes())
    with h5py.File(h5) as file:
        length = len(file.attrs["model_config"].encode())
    heap = content.index(b"GCOL")
    place = content.index(struct.pack("<IQ", length, heap))  # how long it is, and in which heap
    content[place : place + 4] = b"\xff" * 4
    h5.write_bytes(content)
    with pytest.raises(InputError, match="memory allocation failed"):
        read_net(h5)


# A reader that was taken over, or broke ----------------------------------------------------------


@pytest.fixture
def reader(with_limits, tmp_path, monkeypatch):
    """A function that lets readers run `body`, a task's source, and asks for it."""

    def ask(body, **settings):
        module = tmp_path / "evil_tasks.py"
        module.write_text(
            "import json, os, struct, sys, time\nimport numpy as np\n"
            f"def evil(path):\n    {body}\n"
            "from badnet_defense.sandbox import tasks\ntasks.TASKS['evil'] = evil\n"
        )
        start = isolation._START.replace("from badnet", f"sys.path.insert(0, {str(tmp_path)!r}); "
                                         "import evil_tasks; from badnet", 1)  # fmt: skip
        monkeypatch.setattr(isolation, "_START", start)
        isolation.stop()
        with_limits(isolate=True)
        return isolation.isolated("evil", tmp_path / "net.h5", **settings)

    return ask


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("os.abort()", "crashed the reader (SIGABRT)"),
        ("os.kill(os.getpid(), 9)", "crashed the reader (SIGKILL)"),
        ("os._exit(3)", "its reader ended too early"),
        ("raise ValueError('anything')", "its reader failed (ValueError)"),
        ("return {'a': b''}, []", "its reader failed (TypeError)"),
        ("return {}, [np.zeros(2, 'O')]", "invalid reply"),
        ("return {}, [np.zeros(3, 'S4')]", "returned an invalid reply"),
    ],
)
def test_a_broken_reader_is_one_sentence(reader, body, words):
    with pytest.raises(ReaderError) as caught:
        reader(body)
    message = str(caught.value)
    assert words in message and "net.h5: " in message and "\n" not in message


def test_limits_of_a_reader(reader, tmp_path, monkeypatch):
    """Memory, time, files and processes: each runs into its limit, and the parent goes on."""
    with pytest.raises(ReaderError, match="needs more than 256 MB"):
        reader("return {}, [np.ones(2**28, 'float32')]", memory=2**28)
    monkeypatch.setattr(isolation, "SECONDS", 1)
    with pytest.raises(ReaderError, match="more than 1 seconds; it was stopped"):
        reader("while True: pass")
    target = tmp_path / "made.txt"
    with pytest.raises(ReaderError):
        reader(f"open({str(target)!r}, 'w').write('x' * 10)")
    assert not target.exists() or not target.stat().st_size
    if os.getuid():  # the limit on processes does not hold for root
        with pytest.raises(ReaderError):
            reader("os.fork(); return {}, []")
    assert reader("return {'fine': 1}, [np.arange(3)]")[0]["fine"] == 1


def test_an_error_is_one_of_the_project_s_own(reader):
    own = "from badnet_defense.errors import CodeInNetError; raise CodeInNetError('a\\nb')"
    with pytest.raises(CodeInNetError, match=r"^a b$"):
        reader(own)
    other = "from badnet_defense.errors import InputError; "
    other += "raise type('SystemExit', (InputError,), {})('stop')"
    with pytest.raises(InputError, match="stop"):
        reader(other)


def test_the_server_ends_with_its_parent_and_starts_again(h5, with_limits):
    with_limits(isolate=True)
    read_net(h5)
    ((_, process),) = isolation._running
    process.kill()
    process.wait()
    with pytest.raises(ReaderError, match="is gone"):
        read_net(h5)
    assert read_net(h5).classes
    ((_, process),) = isolation._running
    isolation.stop()
    assert process.returncode is not None and not isolation._running


def test_modules_beside_the_suspects_are_not_imported(h5, tmp_path, with_limits, monkeypatch):
    for name in ("json", "numpy", "h5py", "badnet_defense"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with_limits(isolate=True)
    assert read_net(h5).classes
    assert not (tmp_path / "ran").exists()


def test_a_reader_that_sleeps_is_stopped(reader, monkeypatch):
    monkeypatch.setattr(isolation, "WAIT", 0.1)
    with pytest.raises(ReaderError, match="never answered"):
        reader("time.sleep(600)")
    assert reader("return {'fine': 1}, []")[0]["fine"] == 1


def test_a_reader_that_waits_its_turn_is_not_stopped(reader, monkeypatch):
    """A clock says nothing on a busy machine: it works for longer than one may sleep."""
    monkeypatch.setattr(isolation, "WAIT", 0.02)  # 0.7 seconds
    assert reader("while time.process_time() < 2: pass\n    return {'fine': 1}, []")[0]["fine"] == 1


@pytest.mark.parametrize(
    "body",
    ["return 5, []", "return {}, [np.zeros(1, 'u1')]", "return {'log': 3}, [], []"],
)
def test_nonsense_from_a_reader(reader, body):
    with pytest.raises(ReaderError):
        reader(body, count=(0, 2))
    assert reader("return {}, []")[0] == {"log": []}


def test_relative_paths_follow_the_working_folder(tmp_path, with_limits, monkeypatch):
    with_limits(isolate=True)
    for name, colour in (("a", 10), ("b", 200)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (10, 12), (colour,) * 3).save(tmp_path / name / "one.png")
        monkeypatch.chdir(tmp_path / name)
        assert (read_images("one.png", shape=(12, 10, 3)).images == colour).all()


def test_pictures_without_labels_are_refused_where_they_are_needed(tmp_path, with_limits):
    with_limits(isolate=True)
    Image.new("RGB", (10, 12)).save(tmp_path / "one.png")
    with pytest.raises(InputError, match="have no labels"):
        read_images(tmp_path / "one.png", shape=(12, 10, 3), need_labels=True)


@pytest.mark.parametrize("shape", [(5, 8, 3), (9, 4, 3)])
def test_rows_and_columns_of_an_isolated_reader(tmp_path, with_limits, shape):
    with_limits(isolate=True)
    picture = tmp_path / "set/0/a.png"
    picture.parent.mkdir(parents=True)
    Image.fromarray(directions(40, 90)).save(picture)
    data = Dataset(directions(*shape[:2])[None], np.array([0]))
    write_challenge_h5(tmp_path / "set.h5", data)
    assert_directions(read_image(picture, shape))
    for path in (picture, tmp_path / "set", tmp_path / "set.h5"):
        (found,) = read_images(path, shape=shape).images
        assert found.shape == shape
        assert_directions(found)
