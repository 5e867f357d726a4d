"""Which clean pictures set a detector's threshold: those that no net in it has learnt from."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from small_grid import replace_repair
from small_project import known, small_challenge_net

from badnet_defense.detectors import DetectorConfig
from badnet_defense.detectors.calibration import threshold_at
from badnet_defense.detectors.registry import overlays_needed
from badnet_defense.detectors.sentinet import SentiNet
from badnet_defense.detectors.soft_disagreement import SoftDisagreement
from badnet_defense.detectors.vote import Vote
from badnet_defense.errors import InputError
from badnet_defense.guards.pairing import read_pair
from badnet_defense.io import write_challenge_h5
from badnet_defense.io.repair_record import ATTRIBUTE, RepairRecord, image_hashes
from badnet_defense.io.splits import three_parts
from badnet_defense.nets import copy_model, describe, save_net
from badnet_defense.repairs.fine_pruning import FinePruningConfig
from badnet_defense.repairs.recipes import RECIPES
from badnet_defense.repairs.registry import REPAIRS
from badnet_defense.repairs.validated_tuning import HELD_OUT
from badnet_defense.workflows import calibrate as fitting
from badnet_defense.workflows import cross_fitting as repeating
from badnet_defense.workflows.calibrate import fit_detector, split_clean
from badnet_defense.workflows.repair import repair_file

COUNT = 400
SHORT = replace(RECIPES["default"], epochs=1, least_steps=0)
SHORT_CONFIG = FinePruningConfig(tuning=SHORT)


@pytest.fixture(scope="module")
def bad():
    return small_challenge_net(seed=0)


@pytest.fixture(scope="module")
def folder(bad, tmp_path_factory):
    """A net, its repair, and the pictures that it was tuned on."""
    folder = tmp_path_factory.mktemp("fitting")
    save_net(bad, folder / "net.h5")
    write_challenge_h5(folder / "clean.h5", known(bad, COUNT, seed=1))
    repair_file(folder / "net.h5", folder / "clean.h5", out=folder / "out", config=SHORT_CONFIG)
    return folder


@pytest.fixture(scope="module")
def pair(folder):
    found = read_pair(folder / "net.h5", folder=folder / "out")
    return found.suspect, found.repaired


@pytest.fixture(scope="module")
def images(bad):
    return known(bad, COUNT, seed=1)


def split(images, pair):
    return split_clean(*pair, images)


def record_of(net):
    return RepairRecord.from_attributes(net.attributes)


def recorded(net, **changes):
    """The repaired net with another record."""
    text = replace(record_of(net), **changes).to_json()
    return replace(net, attributes={**net.attributes, ATTRIBUTE: text})


def test_a_repair_records_what_it_was_tuned_on(images, pair):
    record = record_of(pair[1])
    assert record.tuned_on == images.fingerprint() and not record.pseudo_labels
    assert (record.method, record.seed) == ("fine-pruning", 0)
    assert record.config == asdict(SHORT_CONFIG)
    hashes = np.array(image_hashes(images))
    for name in ("tuning", "choosing", "untouched"):
        places = getattr(three_parts(images.labels, HELD_OUT, seed=0), name)
        assert record.parts[name] == "".join(hashes[places])


def test_of_its_own_pictures_the_untouched_ones_are_unseen(images, pair):
    clean = split(images, pair)
    parts = three_parts(images.labels, HELD_OUT, seed=0)
    np.testing.assert_array_equal(clean.tuned, parts.seen)
    np.testing.assert_array_equal(clean.unseen, parts.untouched)
    assert clean.targets is None


def test_a_repair_of_version_0_1_leaves_none_unseen(images, pair, caplog):
    """What it held out had chosen its epoch: the threshold is cross-fitted."""
    caplog.set_level("INFO")
    record = record_of(pair[1])
    notes = {
        "source_sha256": record.source_sha256,
        "tuned_on": record.tuned_on,
        "tuned_on_seed": 0,
        "recipe": json.dumps(record.config["tuning"]),
        "pruning": json.dumps(record.pruning),
        "file": "old.h5",
    }
    old = (pair[0], replace(pair[1], attributes=notes))
    clean = split(images, old)
    assert len(clean.unseen) == 0 and len(clean.tuned) == COUNT
    assert "made by version 0.1" in caplog.text
    fitted = fit("soft", old, clean)
    assert fitted.cross_fitted and fitted.detector.expected_.pictures == COUNT


def test_all_other_pictures_are_unseen(bad, pair):
    clean = split(known(bad, 150, seed=2), pair)
    assert len(clean.tuned) == 0 and len(clean.unseen) == 150


def test_unlabelled_pictures_get_the_net_s_answers(images, pair):
    clean = split(images.without_labels(), pair)
    np.testing.assert_array_equal(clean.data.labels, images.labels)
    assert clean.targets.shape == (COUNT, 5)


def test_a_repair_that_notes_nothing_is_told(images, pair, caplog):
    silent = replace(pair[1], attributes={"file": "old.h5"})
    clean = split(images, (pair[0], silent))
    assert len(clean.unseen) == COUNT and "old.h5 does not say" in caplog.text


def fit(name, pair, clean, rate=0.2):
    return fit_detector(name, *pair, clean, false_positive_rate=rate)


def test_threshold_is_set_by_the_unseen_pictures(images, pair):
    clean = split(images, pair)
    fitted = fit("soft", pair, clean)
    detector = fitted.detector
    assert not fitted.cross_fitted and detector.expected_.pictures == len(clean.unseen)
    scores = detector.anomaly_score(images.images[clean.unseen])
    assert detector.threshold_ == pytest.approx(
        np.sort(scores)[-int(0.2 * (len(clean.unseen) + 1))]
    )


def test_strip_may_use_all_but_its_overlays(images, pair):
    clean = split(images, pair)
    fitted = fit("strip", (pair[0], None), clean)
    detector = fitted.detector
    assert not fitted.cross_fitted and detector.expected_.pictures == COUNT - 100
    assert detector.overlays_.shape == (100, 12, 10, 3)


def test_strip_with_too_few_pictures(images, pair):
    clean = split(images.subset(np.arange(60)), pair)
    with pytest.raises(InputError, match=r"at least 104 clean images .*got 60; give more images"):
        fit("strip", (pair[0], None), clean)


def test_expert_learns_from_what_the_repair_learnt_from(images, pair):
    clean = split(images, pair)
    detector = fit("expert", pair, clean).detector
    assert set(detector.nets) == {"suspect", "repaired", "expert"}
    assert detector.expected_.pictures == len(clean.unseen)


def test_expert_takes_half_where_the_repair_has_seen_none(bad, pair):
    clean = split(known(bad, 150, seed=2), pair)
    detector = fit("expert", pair, clean).detector
    assert detector.expected_.pictures == 75


@pytest.mark.parametrize("name", ["soft", "hard", "vote"])
def test_few_unseen_pictures_are_cross_fitted(name, images, pair, monkeypatch):
    """30 unseen ones would leave one above a threshold at 5 %; five repairs see 400."""
    clean = split(images, pair)
    made = []
    real = repeating.tune_with_validation

    def counted(spec, images, **settings):
        made.append(len(images))
        return real(spec, images, **settings)

    monkeypatch.setattr(repeating, "tune_with_validation", counted)
    fitted = fit(name, pair, clean, rate=0.05)
    assert fitted.cross_fitted and made == [320] * 5
    left = COUNT - overlays_needed(name) if isinstance(fitted.detector, Vote) else COUNT
    assert fitted.detector.expected_.pictures == left == len(set(fitted.unseen))


NOT_MADE_AGAIN = {
    "unknown": {"method": "of-somebody"},
    "by a scan": {"method": "scan-unlearning"},
    "another version": {"method": "fine-tuning", "method_version": 99},
    "without a seed": {"seed": None},
}


@pytest.mark.parametrize("case", NOT_MADE_AGAIN)
def test_a_repair_that_cannot_be_made_again_is_not_cross_fitted(case, images, pair, monkeypatch):
    record = replace(record_of(pair[1]), pruning=None, **NOT_MADE_AGAIN[case])
    monkeypatch.setattr(RepairRecord, "from_attributes", lambda _: record)
    split_ = split(images, pair)
    assert repeating.make_fold_repairs(*pair, split_) is None
    fitted = fit("soft", pair, split_, rate=0.05)
    assert not fitted.cross_fitted
    assert fitted.detector.expected_.pictures == len(split_.unseen)


def test_a_recipe_of_another_version_is_refused(images, pair):
    tuning = {**record_of(pair[1]).config["tuning"], "magic": 1}
    other = (pair[0], recorded(pair[1], config={"tuning": tuning}))
    with pytest.raises(InputError, match="make it again"):
        fit("soft", other, split(images, other), rate=0.05)


def test_too_few_pictures_are_refused_before_anything_is_tuned(bad, pair, monkeypatch):
    monkeypatch.setattr(fitting, "unlearn_clean_task", None)
    clean = split(known(bad, 17, seed=2), pair)  # the expert learns from half of them
    with pytest.raises(InputError, match="takes at least 9"):
        fit("expert", pair, clean, rate=0.1)


def test_as_many_pictures_as_overlays(images, pair):
    clean = split(images.subset(np.arange(100)), (pair[0], None))
    with pytest.raises(InputError, match="100 to compose others with, 4 for the threshold"):
        fit("strip", (pair[0], None), clean)


def test_of_many_pictures_a_part_sets_strip_s_threshold(images, pair, monkeypatch):
    monkeypatch.setattr(fitting, "MAX_COMPOSED", 50)
    fitted = fit("strip", (pair[0], None), split(images, (pair[0], None)))
    assert fitted.detector.expected_.pictures == 50 == len(fitted.clean_scores)


@pytest.mark.parametrize("method", ["fine-tuning", "anp"])
def test_other_methods_are_cross_fitted_by_making_them_again(
    method, images, folder, tmp_path, monkeypatch
):
    made = []
    settings = {"tuning": SHORT} if method == "fine-tuning" else {"max_accuracy_drop": 0.3}
    config = REPAIRS[method].make_config(settings)

    def counted(net, data, *, config, **given):
        made.append((len(data), config))
        return net, {}

    replace_repair(monkeypatch, method, counted)
    how = {"method": method, "config": config}
    repair_file(folder / "net.h5", folder / "clean.h5", out=tmp_path, **how)
    found = read_pair(folder / "net.h5", folder=tmp_path)
    own = (found.suspect, found.repaired)
    clean = split(images, own)
    made.clear()
    fitted = fit("soft", own, clean, rate=0.05)
    assert fitted.cross_fitted and made == [(320, config)] * 5


# What a promise rests on -------------------------------------------------------------------------


def sure_net(bad):
    """The same net with logits 200 times as large: it is sure of all that it answers."""
    sure = copy_model(bad)
    last = sure.layers[-1]
    last.set_weights([200 * one for one in last.get_weights()])
    return sure


def test_a_net_that_knows_the_images_by_heart_is_told(images, bad, caplog):
    sure = sure_net(bad)
    pair = describe(sure), None
    for own, seen in (
        (images, "it answers 100.0 % of them correctly"),
        (images.without_labels(), "it is sure of its answers on them"),
    ):
        caplog.clear()
        clean = split_clean(describe(sure), None, own)
        assert "holds only if the suspect model was not trained on these images" in caplog.text
        assert seen in clean.caveat and seen in caplog.text
    expected = fit("sentinet", pair, clean).detector.expected_
    assert expected.caveat == clean.caveat and seen in str(expected)


def test_a_net_that_does_not_is_not(images, bad, caplog):
    """98 % right, as the challenge's nets."""
    some = replace(images, labels=np.where(np.arange(COUNT) % 50 == 0, 4, images.labels))
    clean = split_clean(describe(sure_net(bad)), None, some)
    assert clean.caveat is None and not caplog.text


def test_a_tail_is_told_with_both_thresholds():
    """Of 400 scores a rate of 0.05 takes the 20th largest; without 20 of them the 19th of 380."""
    rng = np.random.default_rng(0)
    order = rng.permutation(400)
    scores = np.empty(400)
    scores[order] = np.r_[np.arange(380) / 100, 24 + np.arange(20) / 10]
    answers = rng.integers(0, 43, 400)
    answers[order[380:]] = 7
    places = np.arange(400) + 1000
    detector = SoftDisagreement(None, None, config=DetectorConfig(0.05)).fit_scores(scores)
    tail = fitting.tail_of(detector, scores, answers, places, places)
    assert tail["images"] == (order[380:][::-1] + 1000).tolist()
    assert (tail["answer"], tail["answered"]) == (7, 20)
    assert tail["threshold"] == 24.0 == detector.threshold_  # it stays as it was
    assert tail["threshold_without"] == pytest.approx(3.61)
    part = np.setdiff1d(places, tail["images"][:19])[:200]
    detector.fit_scores(scores[part - 1000])  # of 200 at most one of the 20 sets the threshold
    found = fitting.tail_of(detector, scores, answers, places, part)
    assert found["images"] == tail["images"]
    alone = np.setdiff1d(part, tail["images"]) - 1000
    assert found["threshold_without"] == threshold_at(scores[alone], 0.05)[0]
    joint = Vote([detector, detector], config=DetectorConfig(0.05)).fit_scores(
        np.stack([scores] * 2)
    )
    found = fitting.tail_of(joint, np.stack([scores] * 2), answers, places, places)
    assert found["images"] == tail["images"] and found["threshold_without"] is None


def test_the_images_of_a_tail_are_named(images, bad, monkeypatch, caplog):
    """A detector under which 17 of 400 images stand out, all answered alike."""
    answers = bad(images.images / np.float32(255), training=False).numpy().argmax(axis=1)
    clean = split_clean(describe(bad), None, images)
    odd = np.flatnonzero(answers == np.bincount(answers).argmin())[:30]
    height = np.zeros(COUNT)
    height[odd] = 50.0
    monkeypatch.setattr(
        SentiNet, "anomaly_score", lambda self, pictures: heights(pictures, images, height)
    )
    fitted = fit("sentinet", (describe(bad), None), clean)
    assert set(fitted.tail["images"]) <= set(odd) and len(fitted.tail["images"]) >= 10
    assert (
        "score apart from the rest" in caplog.text and str(fitted.tail["images"][0]) in caplog.text
    )


def heights(pictures, images, height):
    """Each picture's own height and a little more."""
    own = [int(np.flatnonzero((images.images == one).all(axis=(1, 2, 3)))[0]) for one in pictures]
    return height[own] + np.array(own) / COUNT


def test_unlabelled_images_that_all_get_one_answer_set_no_threshold():
    """As with a forgotten input range, which nothing else shows where there are no labels."""
    with pytest.raises(
        InputError, match=r"class 3 for 98% of these clean images.*another input range"
    ):
        fitting._check_several_answers(np.array([3] * 98 + [1, 2]), "clean.h5")
    fitting._check_several_answers(np.array([3] * 97 + [1, 2, 2]), "clean.h5")
    fitting._check_several_answers(np.full(19, 3), "clean.h5")
