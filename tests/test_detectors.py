"""The detectors: one shape for all, scores against plain implementations, answers, files."""

import zipfile

import keras
import numpy as np
import pytest
from PIL import Image
from small_nets import images
from test_guard import CLASSES, INPUTS, NETS, PICTURES, rewritten, two_nets

from badnet_defense.data import InputRange
from badnet_defense.errors import InputError, TooLargeError, UnsafeNetError
from badnet_defense.guard import overlaid, reading
from badnet_defense.guard.backdoor_expert import BackdoorExpert
from badnet_defense.guard.calibrated import build_calibrated_guard
from badnet_defense.guard.hard_disagreement import HardDisagreement
from badnet_defense.guard.reading import is_guard, read_guard
from badnet_defense.guard.sentinet import SentiNet
from badnet_defense.guard.soft_disagreement import SoftDisagreement, Surprise
from badnet_defense.guard.strip import Strip
from badnet_defense.guard.vote import Vote
from badnet_defense.nets import copy_net, predict_labels
from badnet_defense.runs.answering import answer_pictures

CLEAN = images(300, shape=PICTURES.shape[1:], seed=5).pictures
RATE = 0.1


@pytest.fixture(scope="module")
def nets():
    bad, repaired = two_nets()
    expert = copy_net(bad)
    rng = np.random.default_rng(8)
    expert.set_weights([w * (1 + rng.normal(0, 0.5, w.shape)) for w in bad.get_weights()])
    return bad, repaired, expert


def made(name, nets, **settings):
    bad, repaired, expert = nets
    settings = {"false_alarm_rate": RATE, **settings}
    if name == "strip":
        return Strip(bad, overlays=12, **settings)
    if name == "sentinet":
        return SentiNet(bad, overlays=5, **settings)
    if name == "expert":
        return BackdoorExpert(bad, repaired, expert, **settings)
    if name == "vote":
        return Vote([made(one, nets) for one in ("soft", "strip", "sentinet")], **settings)
    kinds = {"hard": HardDisagreement, "soft": SoftDisagreement, "surprise": Surprise}
    return kinds[name](bad, repaired, **settings)


ALL = ("hard", "soft", "surprise", "expert", "strip", "sentinet", "vote")


@pytest.fixture(scope="module")
def fitted(nets):
    return {name: made(name, nets).fit(CLEAN) for name in ALL}


@pytest.mark.parametrize("name", ALL)
def test_answers_are_the_bad_net_s_or_n_above_the_threshold(name, fitted, nets):
    detector = fitted[name]
    scores = detector.score_samples(PICTURES)
    assert scores.shape == (len(PICTURES),)
    own = predict_labels(nets[0], PICTURES)
    expected = np.where(scores > detector.threshold_, CLASSES, own)
    np.testing.assert_array_equal(detector.predict(PICTURES), expected)


@pytest.mark.parametrize("name", [name for name in ALL if name != "hard"])
def test_clean_pictures_keep_to_the_rate(name, fitted):
    detector = fitted[name]
    fresh = images(1500, shape=PICTURES.shape[1:], seed=6).pictures
    seen = np.mean(detector.predict(fresh) == CLASSES)
    assert detector.expected_.low - 0.03 < seen < detector.expected_.high + 0.03
    assert detector.expected_.rate <= RATE


def test_hard_answers_as_the_disagreement_guard_and_tells_its_rate(fitted, nets):
    first, second = (predict_labels(net, CLEAN) for net in nets[:2])
    assert fitted["hard"].expected_.rate == pytest.approx(np.mean(first != second))
    np.testing.assert_array_equal(
        fitted["hard"].predict(CLEAN), np.where(first == second, first, CLASSES)
    )


def test_a_detector_shows_its_rate(fitted):
    assert repr(fitted["soft"]) == "SoftDisagreement(false_alarm_rate=0.1)"
    assert "Strip" in repr(fitted["vote"])


@pytest.mark.parametrize("rate", [0, 1, -0.1, 2])
def test_rate_outside_its_range(rate, nets):
    with pytest.raises(ValueError, match="expected one in"):
        made("soft", nets, false_alarm_rate=rate)


def test_too_few_clean_pictures(nets):
    with pytest.raises(InputError, match="takes at least 99"):
        made("soft", nets, false_alarm_rate=0.01).fit(CLEAN[:50])


def test_input_range_is_the_nets(nets):
    """A net that takes 0-255 and divides by itself scores as the one that takes [0, 1]."""
    wide = [
        keras.Sequential([keras.Input(net.input_shape[1:]), keras.layers.Rescaling(1 / 255), net])
        for net in nets[:2]
    ]
    found = SoftDisagreement(*wide, input_range=InputRange(0, 255)).score_samples(PICTURES)
    np.testing.assert_allclose(found, made("soft", nets).score_samples(PICTURES), rtol=1e-4)


# STRIP -------------------------------------------------------------------------------------------


def plain_strip(net, overlays, picture):
    """Minus the mean over overlays of -sum p log2 p, one overlay at a time."""
    entropies = []
    for overlay in overlays:
        mixed = (picture.astype(np.float64) + overlay) / 2 / 255
        answers = net(mixed[None].astype(np.float32)).numpy()[0].astype(np.float64)
        entropies.append(-sum(p * np.log2(p) for p in answers if p > 0))
    return -np.mean(entropies)


@pytest.mark.parametrize("at_once", [512, 3])
@pytest.mark.parametrize("name", NETS)
def test_strip_equals_one_overlay_at_a_time(name, at_once, monkeypatch):
    monkeypatch.setattr(overlaid, "PAIRS_AT_ONCE", at_once)
    bad, _ = two_nets(NETS[name])
    detector = Strip(bad, overlays=7, false_alarm_rate=RATE).fit(CLEAN)
    assert detector.overlays_.shape == (7, *CLEAN.shape[1:])
    expected = [plain_strip(bad, detector.overlays_, one) for one in PICTURES[:9]]
    np.testing.assert_allclose(detector.score_samples(PICTURES[:9]), expected, atol=2e-5)


def test_strip_sets_its_threshold_by_other_pictures_than_its_overlays(nets):
    detector = made("strip", nets)
    left = detector.prepare(CLEAN)
    assert len(left) == len(CLEAN) - 12
    both = np.concatenate([left, detector.overlays_])
    assert len(np.unique(both.reshape(len(both), -1), axis=0)) == len(CLEAN)
    again = made("strip", nets)
    again.prepare(CLEAN)
    np.testing.assert_array_equal(again.overlays_, detector.overlays_)


def test_strip_with_too_few_pictures(nets):
    with pytest.raises(InputError, match=r"20 clean pictures .* 12 overlays"):
        made("strip", nets).fit(CLEAN[:20])


def test_strip_with_overlays_of_one_s_own(nets):
    own = Strip(nets[0], overlays=CLEAN[:5], false_alarm_rate=RATE).fit(CLEAN[5:])
    np.testing.assert_array_equal(own.overlays_, CLEAN[:5])
    assert own.expected_.pictures == len(CLEAN) - 5


# The vote ----------------------------------------------------------------------------------------


def test_vote_is_any_member_above_its_share(fitted):
    vote = fitted["vote"]
    found = [one.score_samples(PICTURES) for one in vote.members]
    above = [scores > limit for scores, limit in zip(found, vote.thresholds_, strict=True)]
    np.testing.assert_array_equal(
        vote.score_samples(PICTURES) > vote.threshold_, np.any(above, axis=0)
    )


def test_vote_s_scores_by_hand(nets):
    """Clean scores 1..9 and 10, 20, .. 90; a picture with 8.5 and 15 has one and eight above."""

    class Fixed(SoftDisagreement):
        def score_samples(self, pictures):
            return pictures[:, 0, 0, 0] * self.scale

    members = [Fixed(*nets[:2]), Fixed(*nets[:2])]
    members[0].scale, members[1].scale = 1.0, -10.0
    vote = Vote(members, false_alarm_rate=0.25)
    vote.fit(np.arange(1.0, 10.0)[:, None, None, None])
    found = vote.score_samples(np.array([8.5, 0.5, 5.0])[:, None, None, None])
    np.testing.assert_allclose(found, -np.log10([2 / 10, 1 / 10, 6 / 10]))
    # Of nine pictures two may pass: 9 is the oddest of the one, 1 of the other member.
    assert vote.thresholds_ == [9, -10] and vote.expected_.rate == pytest.approx(0.2)


@pytest.mark.parametrize("count", [99, 300])
def test_vote_keeps_to_the_joint_rate(count, nets):
    """Two members whose scores have nothing to do with each other."""
    rng = np.random.default_rng(4)

    class Drawn(SoftDisagreement):
        def score_samples(self, pictures):
            return rng.standard_normal(len(pictures))

    rates, promised = [], []
    for _ in range(200):
        vote = Vote([Drawn(*nets[:2]), Drawn(*nets[:2])], false_alarm_rate=0.05)
        vote.fit(np.zeros(count))
        rates.append(np.mean(vote.score_samples(np.zeros(4000)) > vote.threshold_))
        promised.append(vote.expected_.rate)
    assert np.mean(rates) < 0.052 and abs(np.mean(rates) - np.mean(promised)) < 0.006


def test_vote_with_too_few_pictures(nets):
    members = [made("soft", nets), made("surprise", nets)]
    scores = np.array([[1.0, 2, 3, 4, 5, 6, 7, 8, 9], [9, 8, 7, 6, 5, 4, 3, 2, 1]])
    with pytest.raises(InputError, match="joint threshold of 2 detectors"):
        Vote(members, false_alarm_rate=0.1).fit_scores(scores)


def test_vote_s_file_takes_members_of_different_kinds_and_the_same_nets(nets):
    for members in (
        [made("soft", nets), made("soft", nets)],
        [made("soft", nets), made("surprise", (*two_nets(), None))],
    ):
        with pytest.raises(ValueError, match="different kinds with the same nets"):
            build_calibrated_guard(Vote(members, false_alarm_rate=RATE).fit(CLEAN))


def test_answers_that_are_no_numbers_are_flagged(nets):
    detector = made("soft", nets).fit(CLEAN)
    assert detector.judged(np.array([1, 2]), np.array([np.nan, -9.0])).tolist() == [CLASSES, 2]
    with pytest.raises(InputError, match="NaN"):
        detector.fit_scores(np.array([np.nan] + [1.0] * 50))


# Files -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated")
    for name, detector in fitted.items():
        build_calibrated_guard(detector).save(folder / f"{name}.keras")
    return folder


def away_from_thresholds(detector, pictures):
    """Pictures whose scores are no rounding error away from a threshold."""
    if isinstance(detector, Vote):
        pairs = zip(detector.raw_scores(pictures), detector.thresholds_, strict=True)
    else:
        pairs = [(detector.score_samples(pictures), detector.threshold_)]
    return np.all([np.abs(scores - limit) > 1e-4 for scores, limit in pairs], axis=0)


@pytest.mark.parametrize("name", ALL)
def test_saved_guard_answers_as_the_detector(name, fitted, folder):
    sure = away_from_thresholds(fitted[name], PICTURES)
    assert sure.mean() > 0.9
    expected = fitted[name].predict(PICTURES)
    assert 0 < np.mean(expected == CLASSES) < 1
    loaded = keras.saving.load_model(folder / f"{name}.keras", safe_mode=True)
    answers = loaded.predict(INPUTS, batch_size=16, verbose=0)
    assert answers.dtype == np.int32
    np.testing.assert_array_equal(answers[sure], expected[sure])


@pytest.mark.parametrize("name", ALL)
def test_saved_guard_is_read_as_data_and_answers_without_tensorflow(name, fitted, folder):
    path = folder / f"{name}.keras"
    assert is_guard(path)
    sure = away_from_thresholds(fitted[name], PICTURES)
    answers = read_guard(path).answers(INPUTS)
    np.testing.assert_array_equal(answers[sure], fitted[name].predict(PICTURES)[sure])


def test_pasted_pictures_of_another_count_than_is_stored(folder, tmp_path):
    def more(parts):
        parts["transplant_pictures"]["config"]["count"] = 6

    path = changed(folder / "sentinet.keras", tmp_path / "changed.keras", more)
    with pytest.raises(UnsafeNetError, match=r"overlays.*shape"):
        read_guard(path)


@pytest.mark.parametrize("name", ALL)
def test_file_holds_no_code(name, folder):
    with zipfile.ZipFile(folder / f"{name}.keras") as archive:
        assert "__lambda__" not in archive.read("config.json").decode()


def changed(source, target, change):
    """A copy whose layers, by name, went through `change`."""
    return rewritten(source, target, lambda layers: change({one["name"]: one for one in layers}))


def other_function(parts):
    parts["divergence"]["config"]["function"]["config"] = "badnet_defense>eval"


def foreign_function(parts):
    parts["divergence"]["config"]["function"]["config"] = "os>system"


def threshold_no_number(parts):
    parts["flag_above"]["config"]["arguments"]["thresholds"][0] = float("nan")


def one_threshold_less(parts):
    parts["flag_above"]["config"]["arguments"]["thresholds"].pop()


def countless_overlays(parts):
    parts["certainty_pictures"]["config"]["count"] = 10**9


def other_layer(parts):
    parts["certainty_pictures"]["class_name"] = "TFSMLayer"


def other_wiring(parts):
    arguments = parts["divergence"]["inbound_nodes"][0]["args"][0]
    arguments.reverse()


def no_range(parts):
    parts["flag_above"]["config"]["arguments"]["input_range"] = [1.0, 0.0]


@pytest.mark.parametrize(
    "change",
    [
        *(other_function, foreign_function, threshold_no_number, one_threshold_less),
        *(countless_overlays, other_layer, other_wiring, no_range),
    ],
)
def test_changed_guards_are_refused(change, folder, tmp_path):
    path = changed(folder / "vote.keras", tmp_path / "changed.keras", change)
    assert not is_guard(path)
    with pytest.raises(UnsafeNetError, match="no guard of this project"):
        read_guard(path)


def test_overlays_of_another_count_than_is_stored(folder, tmp_path):
    def fewer(parts):
        parts["certainty_pictures"]["config"]["count"] = 11

    path = changed(folder / "strip.keras", tmp_path / "changed.keras", fewer)
    with pytest.raises(UnsafeNetError, match=r"overlays.*shape"):
        read_guard(path)


def test_overlays_that_take_too_much_memory(folder, monkeypatch):
    monkeypatch.setattr(reading, "MOST_VALUES", 12 * 12 * 10 * 3 - 1)
    with pytest.raises(TooLargeError, match="too much memory"):
        read_guard(folder / "strip.keras")


def test_nets_of_different_shapes_are_refused(nets, tmp_path):
    narrow = keras.Sequential(
        [keras.Input((12, 10, 3)), keras.layers.Flatten(), keras.layers.Dense(CLASSES - 2)]
    )
    mixed = SoftDisagreement(nets[0], narrow, false_alarm_rate=RATE)
    mixed.threshold_ = 1.0
    build_calibrated_guard(mixed).save(tmp_path / "mixed.keras")
    with pytest.raises(UnsafeNetError, match="differ in shape"):
        read_guard(tmp_path / "mixed.keras")


def test_guard_of_another_range_is_refused(nets, tmp_path):
    wide = SoftDisagreement(*nets[:2], false_alarm_rate=RATE, input_range=InputRange(0, 255))
    build_calibrated_guard(wide.fit(CLEAN)).save(tmp_path / "wide.keras")
    assert read_guard(tmp_path / "wide.keras").input_range == InputRange(0, 255)
    Image.fromarray(PICTURES[0]).save(tmp_path / "one.png")
    with pytest.raises(InputError, match="give --input-range 0,255"):
        answer_pictures([tmp_path / "one.png"], tmp_path / "wide.keras", root=tmp_path)
