"""Files that travel to workers that may not see this machine's disk."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from badnet_defense.errors import InputError
from badnet_defense.parallel import remote_files
from badnet_defense.parallel.remote_files import RemoteFile


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """The worker's own folder."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.setattr(remote_files, "user_temp_dir", lambda: folder)
    return folder


def sent(path, content=b"abc"):
    """The remote of a file that is gone by the time it arrives."""
    path.write_bytes(content)
    made = RemoteFile.of(path, apart=True)
    path.unlink()
    return made


def test_a_file_that_is_there_stays_where_it_is(tmp_path, elsewhere):
    (tmp_path / "a.h5").write_bytes(b"abc")
    assert RemoteFile.of(tmp_path / "a.h5", apart=True).here() == tmp_path / "a.h5"
    assert RemoteFile.of(tmp_path / "a.h5", apart=False).contents is None
    assert not list(elsewhere.iterdir())


def test_equal_contents_under_two_names_both_stay(tmp_path):
    one, two = sent(tmp_path / "a.h5"), sent(tmp_path / "b.h5")
    places = one.here(), two.here()
    assert [place.name for place in places] == ["a.h5", "b.h5"]
    assert all(place.read_bytes() == b"abc" for place in places)


def test_many_workers_at_once(tmp_path):
    remote = sent(tmp_path / "a.h5", bytes(10**6))
    with ThreadPoolExecutor(8) as threads:
        places = list(threads.map(lambda _: remote.here().read_bytes(), range(8)))
    assert places == [bytes(10**6)] * 8


def test_folders_and_damaged_remains(tmp_path, elsewhere):
    folder = tmp_path / "pictures"
    (folder / "0").mkdir(parents=True)
    (folder / "0/a.png").write_bytes(b"a")
    remote = RemoteFile.of(folder, apart=True)
    (folder / "0/a.png").write_bytes(b"changed")
    place = remote.here()
    assert place.is_relative_to(elsewhere) and (place / "0/a.png").read_bytes() == b"a"
    (place / "0/a.png").write_bytes(b"damaged")
    assert (remote.here() / "0/a.png").read_bytes() == b"a"
    file = sent(tmp_path / "a.h5")
    file.here().write_bytes(b"damaged")
    assert file.here().read_bytes() == b"abc"


def test_what_did_not_arrive_whole(tmp_path):
    remote = sent(tmp_path / "a.h5")
    broken = RemoteFile(remote.path, remote.sha256, {"": np.frombuffer(b"ab", np.uint8)})
    with pytest.raises(InputError, match="did not arrive whole"):
        broken.here()
