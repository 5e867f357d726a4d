"""The record that a repair leaves in the repaired net's file."""

from dataclasses import replace

import numpy as np
import pytest
from backdoored_nets import quarter_images, trained_net
from small_grid import replace_repair

from badnet_defense.io.repair_record import RepairRecord
from badnet_defense.nets import read_net
from badnet_defense.repairs.fine_tuning import FineTuningConfig
from badnet_defense.repairs.registry import REPAIRS
from badnet_defense.repairs.validated_tuning import validation_split
from badnet_defense.workflows.pair_files import record_of, write_pair


@pytest.fixture
def net():
    return replace(trained_net(), attributes={"file_sha256": "0a" * 32})


def test_images_that_a_repair_promises_to_leave_are_recorded_as_untouched(net):
    data = quarter_images(60)
    record = record_of(net, data, "fine-tuning", FineTuningConfig(), seed=2, pseudo_labels=False)
    untouched = np.flatnonzero(~record.depends_on(data))
    np.testing.assert_array_equal(untouched, validation_split(data.labels, 2).untouched)


def test_all_images_of_a_repair_that_promises_nothing_count_as_seen(net, monkeypatch):
    """As of another package: none of them may set a threshold."""
    replace_repair(monkeypatch, "fine-tuning", REPAIRS["fine-tuning"].run, facts={})
    data = quarter_images(60)
    record = record_of(net, data, "fine-tuning", FineTuningConfig(), seed=2, pseudo_labels=False)
    assert record.depends_on(data).all()


def test_the_repaired_file_holds_its_record(net, tmp_path):
    data = quarter_images(60)
    record = record_of(net, data, "fine-tuning", FineTuningConfig(), seed=2, pseudo_labels=True)
    write_pair(tmp_path / "net", {"bad": net, "repaired": net}, record, synthetic=True)
    assert {path.name for path in tmp_path.iterdir()} == {"net.h5", "net.guard.keras"}
    found = read_net(tmp_path / "net.h5")
    assert RepairRecord.from_attributes(found.attributes) == record
    assert found.attributes["synthetic"] is True and str(found.input_range) == "0,1"
    assert record.pseudo_labels and record.versions["numpy"] == np.__version__
