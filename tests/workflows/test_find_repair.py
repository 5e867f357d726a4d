"""Where repairs are written and found, from whichever folder a command is called."""

import pytest
from small_nets import side_path_net

from badnet_defense.errors import InputError
from badnet_defense.io import file_sha256
from badnet_defense.nets import save_net
from badnet_defense.workflows.find_repair import find_repair, output_folder, require_repair


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A project's folder with one model, and another folder in which the commands are called."""
    model = tmp_path / "project/models/net.h5"
    save_net(side_path_net(), model)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


def repair(path, model=None):
    notes = {} if model is None else {"source_sha256": file_sha256(model)}
    save_net(side_path_net(), path, attributes=notes)
    return path


def test_what_is_written_is_found_from_another_folder(places):
    model = places / "project/models/net.h5"
    assert find_repair(model) is None
    made = repair(output_folder(model) / "net.h5", model)
    assert made == places / "project/fine_pruned_models/net.h5"
    assert find_repair(model) == require_repair(model) == made


def test_a_model_elsewhere_is_repaired_into_the_working_folder(places):
    model = places / "net.h5"
    save_net(side_path_net(), model)
    assert output_folder(model).as_posix() == "fine_pruned_models"
    made = repair(output_folder(model) / "net.h5", model)
    assert find_repair(model) == made


def test_of_two_the_model_s_own_is_taken(places):
    """Whichever comes first: a file of the same name may belong to another model."""
    model = places / "project/models/net.h5"
    foreign = repair(places / "project/fine_pruned_models/net.h5")
    assert find_repair(model) == foreign  # its reader says what is wrong with it
    own = repair(places / "elsewhere/fine_pruned_models/net.h5", model)
    assert find_repair(model).resolve() == own


def test_a_folder_that_is_named_is_the_only_one(places):
    model = places / "project/models/net.h5"
    repair(output_folder(model) / "net.h5", model)
    assert find_repair(model, places / "other") is None
    assert find_repair(model, places / "project/fine_pruned_models") is not None


def test_where_was_looked_is_said(places):
    model = places / "project/models/net.h5"
    with pytest.raises(InputError, match=r"no repaired model for .*net\.h5 in .* or fine_pruned"):
        require_repair(model)
    with pytest.raises(InputError, match=r"in other; create it with badnet-defense repair"):
        require_repair(model, "other")
    with pytest.raises(InputError, match=r"missing\.h5: no such file"):
        require_repair("missing.h5")
