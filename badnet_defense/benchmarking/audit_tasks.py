"""An audit's units of work beside those of its scans: how well a net does, and its repair."""

from dataclasses import replace

from badnet_defense.errors import InputError
from badnet_defense.evaluation.input_checks import check_belonging
from badnet_defense.evaluation.metrics import accuracy
from badnet_defense.io import Dataset
from badnet_defense.nets.outputs import read_classifier
from badnet_defense.parallel.remote_files import results_below
from badnet_defense.workflows.cross_fitting import unseen_share
from badnet_defense.workflows.detect import RATE, enough_images, guard_file
from badnet_defense.workflows.repair import repair_file


def clean_accuracy(pictures, labels, spec, input_range, name, folders):
    """A net's accuracy on labelled clean pictures, in [0, 1].

    Raises:
        InputError: the net hardly knows them, or knows them in another range.
    """
    net = replace(spec, input_range=input_range, attributes={**spec.attributes, "file": name})
    data = Dataset(pictures, labels, source="the clean images", folders=folders)
    return accuracy(net.predict(pictures), check_belonging(net, data).labels)


def repaired(net, clean, sha256, out, method, detector, triggers, pseudo_labels, input_range, seed):
    """A net's repair and the guard of both, written or handed back.

    Args:
        net, clean: `RemoteFile`s of the net and of its clean pictures.
        sha256: of the net that was judged.
        out: folder of the results; None where this worker does not see it.
        method: of the repair.
        detector: of the guard.
        triggers: [(label, mask, pattern)] that the scan found, or None.
        pseudo_labels: True where the clean pictures have no labels.
        input_range, seed: as for `repair_file`.

    Returns:
        (the repair's figures, the detector's, {path: bytes} that was made elsewhere).

    Raises:
        InputError: the net is another one by now, or cannot be repaired.
    """
    asked = {"input_range": input_range, "seed": seed}
    with results_below(out) as (folder, made):
        net, pictures = net.here(), clean.here()
        enough_images(pictures, read_classifier(net), detector, RATE, fraction=unseen_share(method))
        found = repair_file(
            net,
            pictures,
            out=folder,
            method=method,
            pseudo_labels=pseudo_labels,
            triggers=triggers,
            **asked,
        )
        if found["net"]["sha256"] != sha256:
            raise InputError(f"{net}: it was changed since it was judged; audit it again.")
        guard = guard_file(
            net,
            pictures,
            out=folder / f"{net.stem}.{detector}.keras",
            name=detector,
            false_positive_rate=RATE,
            repaired=folder / f"{net.stem}.h5",
            **asked,
        )
        kept = {key: found[key] for key in ("method", "bad", "repaired", "guard", "seconds")}
        return kept, guard["detector"], made()
