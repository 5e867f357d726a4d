"""Calibrated guards of nets with one layer, against scores computed image by image in NumPy."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers
from small_nets import images, net

from badnet_defense.detectors import scores
from badnet_defense.detectors.backdoor_expert import BackdoorExpert
from badnet_defense.detectors.bands import bands
from badnet_defense.detectors.hard_disagreement import HardDisagreement
from badnet_defense.detectors.nll import NLL
from badnet_defense.detectors.sentinet import SentiNet
from badnet_defense.detectors.soft_disagreement import SoftDisagreement
from badnet_defense.detectors.strip import Strip
from badnet_defense.detectors.vote import Vote
from badnet_defense.guards.calibrated import Composed, build_calibrated_guard, guard_rule
from badnet_defense.guards.description import GuardDescription, Member
from badnet_defense.nets import describe
from badnet_defense.nets.input_range import InputRange

SHAPE, N = (6, 5, 3), 4
RANGE = InputRange(-1, 1)
OVERLAYS = images(7, shape=SHAPE, seed=2).images
IMAGES = images(24, shape=SHAPE, seed=3).images
INPUTS, SHOWN = RANGE.scale(IMAGES), RANGE.scale(OVERLAYS)


def one_layer(seed):
    made = net([layers.Flatten(), layers.Dense(N, activation="softmax")], shape=SHAPE, seed=seed)
    return describe(made).with_range(RANGE)


SUSPECT, REPAIRED, EXPERT = map(one_layer, range(3))
OWN = SUSPECT.numpy_proba(INPUTS)
CLASSES = OWN.argmax(axis=1)


def neg_entropies():
    """Each image averaged with each overlay."""
    mixed = [SUSPECT.numpy_proba((one + SHOWN) / 2) for one in INPUTS]
    return np.array([np.mean(np.sum(p * np.log2(p), axis=1)) for p in mixed])


def takeovers():
    """The best of ten bands of each image on the overlays of other classes."""
    hosts, found = SUSPECT.numpy_proba(SHOWN).argmax(axis=1), []
    assert len(set(hosts)) > 1
    for one, own in zip(INPUTS, CLASSES, strict=True):
        kept = SHOWN[hosts != own]
        carried = [SUSPECT.numpy_proba(np.where(mask, one, kept))[:, own] for mask in bands(SHAPE)]
        found.append(max(-np.log(np.mean(1 - one)) for one in carried))
    return np.array(found)


def paired(measure, *nets):
    return measure(np, *(one.numpy_proba(INPUTS) for one in nets))


CASES = {
    "soft": (SoftDisagreement(SUSPECT, REPAIRED), paired(scores.divergence, SUSPECT, REPAIRED)),
    "nll": (NLL(SUSPECT, REPAIRED), paired(scores.nll, SUSPECT, REPAIRED)),
    "expert": (
        BackdoorExpert(SUSPECT, REPAIRED, EXPERT),
        paired(scores.expert_log_ratio, SUSPECT, REPAIRED, EXPERT),
    ),
    "strip": (Strip(SUSPECT, overlays=OVERLAYS), neg_entropies()),
    "sentinet": (SentiNet(SUSPECT, overlays=OVERLAYS), takeovers()),
}


def middle(values):
    """Between two scores in the middle, where rounding decides nothing."""
    return float(np.mean(np.sort(values)[11:13]))


@pytest.mark.parametrize("name", CASES)
def test_answers_are_n_above_the_threshold(name):
    detector, expected = CASES[name]
    detector.threshold_ = middle(expected)
    guard = build_calibrated_guard(detector)
    answers = guard(INPUTS).numpy()
    assert answers.dtype == np.int32 and guard.output_shape == (None,)
    np.testing.assert_array_equal(answers, np.where(expected > middle(expected), N, CLASSES))
    assert (answers == N).sum() == 12


def test_the_hard_guard_has_no_threshold_to_set():
    guard = build_calibrated_guard(HardDisagreement(SUSPECT, REPAIRED))
    differ = REPAIRED.numpy_proba(INPUTS).argmax(axis=1) != CLASSES
    np.testing.assert_array_equal(guard(INPUTS).numpy(), np.where(differ, N, CLASSES))
    assert 0 < differ.mean() < 1


def test_a_vote_flags_what_any_member_flags():
    members = [CASES[name] for name in ("soft", "strip")]
    vote = Vote([one for one, _ in members])
    vote.thresholds_, vote.threshold_ = [middle(found) for _, found in members], 0.5
    flagged = [found > middle(found) for _, found in members]
    expected = np.where(flagged[0] | flagged[1], N, CLASSES)
    np.testing.assert_array_equal(build_calibrated_guard(vote)(INPUTS).numpy(), expected)
    assert (flagged[0] & ~flagged[1]).any() and (flagged[1] & ~flagged[0]).any()


def test_a_vote_s_file_holds_each_kind_once_and_one_net_of_a_name():
    soft, nll = CASES["soft"][0], CASES["nll"][0]
    other, twin = NLL(SUSPECT, EXPERT), NLL(replace(SUSPECT), REPAIRED)
    for members in ([soft, soft], [soft, other], [soft, twin]):
        with pytest.raises(ValueError, match="different kinds with the same nets"):
            build_calibrated_guard(Vote(members))
    vote = Vote([soft, nll])
    vote.thresholds_ = [1.0, 2.0]
    assert build_calibrated_guard(vote).name == "guard"


@pytest.mark.parametrize("name", ["expert", "sentinet"])
def test_what_the_file_holds_beside_the_nets(name):
    """Its nets in one order, the range, the thresholds, and the classes of the overlays."""
    detector, expected = CASES[name]
    detector.threshold_ = middle(expected)
    guard = build_calibrated_guard(detector)
    parts = {part.name: part for part in guard.layers}
    roles = ["suspect", "repaired", "expert"]
    kept = [part for part in parts if part in roles]
    assert kept == (roles if name == "expert" else ["suspect"])
    hosts = SUSPECT.numpy_proba(SHOWN).argmax(axis=1).tolist() if name == "sentinet" else None
    assert parts["guard_rule"].arguments["description"] == {
        "format_version": 1,
        "detector": name,
        "rule": [{"detector": name, "threshold": middle(expected), "hosts": hosts}],
        "nets": kept,
        "input_range": [-1.0, 1.0],
    }
    if name == "sentinet":
        pasted = parts["sentinet_images"]
        np.testing.assert_allclose(pasted.overlays.numpy(), SHOWN, rtol=1e-6)
        assert pasted.get_config()["count"] == 7 and not pasted.overlays.trainable
        assert guard.input_shape == (None, *SHAPE)


def test_composed_images_keep_their_order_and_shape():
    detector, _ = CASES["strip"]
    detector.threshold_ = 0.0
    guard = build_calibrated_guard(detector)
    laid = next(part for part in guard.layers if part.name == "strip_images")
    mixed = laid(INPUTS[:3]).numpy()
    expected = [(one + overlay) / 2 for one in INPUTS[:3] for overlay in SHOWN]
    np.testing.assert_allclose(mixed, expected, rtol=1e-6, atol=1e-6)
    assert laid.compute_output_shape((None, *SHAPE)) == (None, *SHAPE)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(laid))
    assert type(again) is type(laid) and again.count == laid.count == 7
    assert again.detector == "strip"


def test_its_parts_are_known_to_keras_by_names_of_this_package():
    for part, name in ((Composed, "Composed"), (guard_rule, "guard_rule")):
        assert keras.saving.get_registered_name(part) == f"badnet_defense>{name}"
        assert keras.saving.get_registered_object(f"badnet_defense>{name}") is part


def test_a_suspect_model_without_an_answer_is_flagged():
    """And so is an image of which the repaired model says nothing, whatever the threshold."""
    suspect = np.float32([[0.5, 0.5], [np.nan, 0.5], [0.2, 0.8], [0.2, 0.8]])
    repaired = np.float32([[0.5, 0.5], [0.5, 0.5], [0.8, 0.2], [np.nan, 0.8]])
    described = GuardDescription("soft", (Member("soft", 1.0),), RANGE)
    divergence = 0.6 * np.log(4) * 2
    assert divergence > 1
    found = guard_rule([suspect, repaired], described.as_dict())
    assert np.asarray(found).tolist() == [0, 2, 2, 2]
    loose = GuardDescription("soft", (Member("soft", float(divergence) + 0.1),), RANGE)
    assert np.asarray(guard_rule([suspect, repaired], loose.as_dict())).tolist() == [0, 2, 1, 2]
