"""Guards' files of every detector: the same answers, read as data, refused when changed."""

import zipfile
from functools import partial

import keras
import numpy as np
import pytest
from guard_pairs import INPUTS, PICTURES, rewritten
from PIL import Image
from small_detectors import ALL, CLEAN, RATE
from small_nets import CLASSES

from badnet_defense.detectors import DetectorConfig
from badnet_defense.detectors.soft_disagreement import SoftDisagreement
from badnet_defense.detectors.vote import Vote
from badnet_defense.errors import InputError, TooLargeError, UnsafeNetError
from badnet_defense.guards import reading
from badnet_defense.guards.calibrated import build_calibrated_guard
from badnet_defense.guards.reading import is_guard, read_guard
from badnet_defense.nets import describe
from badnet_defense.nets.input_range import InputRange
from badnet_defense.workflows.classify import classify_images


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
        pairs = [(detector.anomaly_score(pictures), detector.threshold_)]
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


@pytest.mark.parametrize("name", ALL)
def test_file_holds_no_code(name, folder):
    with zipfile.ZipFile(folder / f"{name}.keras") as archive:
        assert "__lambda__" not in archive.read("config.json").decode()


def changed(source, target, change):
    """A copy whose layers, by name, went through `change`."""
    return rewritten(source, target, lambda layers: change({one["name"]: one for one in layers}))


def arguments(parts):
    """What the rule's function is given."""
    return parts["guard_rule"]["config"]["arguments"]


def rule(parts):
    """The detectors in the description: soft, strip, sentinet."""
    return arguments(parts)["description"]["rule"]


def other_function(parts):
    parts["guard_rule"]["config"]["function"]["config"] = "badnet_defense>eval"


def foreign_function(parts):
    parts["guard_rule"]["config"]["function"]["config"] = "os>system"


def no_description(parts):
    arguments(parts).clear()


def argument_more(parts):
    arguments(parts)["training"] = True


def key_more(parts):
    arguments(parts)["description"]["code"] = "4wAA"


def unknown_detector(parts):
    rule(parts)[0]["detector"] = "eval"


def vote_in_a_vote(parts):
    rule(parts)[0]["detector"] = "vote"


def threshold_no_number(parts):
    rule(parts)[0]["threshold"] = float("nan")


def one_detector_less(parts):
    rule(parts).pop()


def one_detector_twice(parts):
    rule(parts)[2]["detector"] = "strip"


def detectors_in_another_order(parts):
    rule(parts).reverse()


def other_nets(parts):
    arguments(parts)["description"]["nets"] = ["suspect"]


def countless_overlays(parts):
    rule(parts)[1]["hosts"] = [0] * 1001
    parts["strip_images"]["config"]["count"] = 1001


def other_count(parts):
    parts["strip_images"]["config"]["count"] = 11


def overlays_of_another_detector(parts):
    parts["strip_images"]["config"]["detector"] = "sentinet"


def other_layer(parts):
    parts["strip_images"]["class_name"] = "TFSMLayer"


def foreign_layer(parts):
    parts["strip_images"]["registered_name"] = "somebody>Composed"


def no_range(parts):
    arguments(parts)["description"]["input_range"] = [1.0, 0.0]


def hosts_no_numbers(parts):
    rule(parts)[2]["hosts"][0] = "0"


def hosts_of_no_composing_detector(parts):
    rule(parts)[0]["hosts"] = [0]


def rewired(parts, name, node, *sources):
    args = parts[name]["inbound_nodes"][node]["args"]
    tensors = args[0] if isinstance(args[0], list) else args
    for tensor, history in zip(tensors, sources, strict=True):
        tensor["config"]["keras_history"] = [*history, 0]


def nets_in_another_order(parts):
    parts["guard_rule"]["inbound_nodes"][0]["args"][0][:2] = reversed(
        parts["guard_rule"]["inbound_nodes"][0]["args"][0][:2]
    )


def composed_of_composed(parts):
    rewired(parts, "sentinet_images", 0, ("strip_images", 0))


def plain_images_in_place_of_composed(parts):
    rewired(parts, "suspect", 1, ("pictures", 0))


def composed_in_another_order(parts):
    both = [("suspect", 0), ("repaired", 0)]
    rewired(parts, "guard_rule", 0, *both, ("suspect", 2), ("suspect", 1))


def repair_of_answers(parts):
    rewired(parts, "repaired", 0, ("suspect", 0))


def half_precision(parts):
    parts["strip_images"]["config"]["dtype"] = "float16"


def more_than_one_number(parts):
    parts["guard_rule"]["config"]["output_shape"] = [2]


@pytest.mark.parametrize(
    "change",
    [
        *(other_function, foreign_function, no_description, argument_more, key_more),
        *(unknown_detector, vote_in_a_vote, threshold_no_number, one_detector_less),
        *(one_detector_twice, detectors_in_another_order, other_nets, countless_overlays),
        *(other_count, overlays_of_another_detector, other_layer, foreign_layer, no_range),
        *(hosts_no_numbers, hosts_of_no_composing_detector, nets_in_another_order),
        *(composed_of_composed, plain_images_in_place_of_composed, composed_in_another_order),
        *(repair_of_answers, half_precision, more_than_one_number),
    ],
)
def test_changed_guards_are_refused(change, folder, tmp_path):
    path = changed(folder / "vote.keras", tmp_path / "changed.keras", change)
    assert not is_guard(path)
    with pytest.raises(UnsafeNetError, match="no guard of this project"):
        read_guard(path)


def test_a_description_of_another_format_version_is_refused_by_name(folder, tmp_path):
    def newer(parts):
        arguments(parts)["description"]["format_version"] = 2

    path = changed(folder / "vote.keras", tmp_path / "newer.keras", newer)
    with pytest.raises(UnsafeNetError, match="its format version is 2, expected 1"):
        read_guard(path)


def test_classes_of_overlays_that_the_nets_do_not_have(folder, tmp_path):
    def beyond(parts):
        rule(parts)[2]["hosts"][0] = CLASSES

    path = changed(folder / "vote.keras", tmp_path / "beyond.keras", beyond)
    with pytest.raises(UnsafeNetError, match="names other classes than its nets"):
        read_guard(path)


def test_the_file_describes_the_guard(folder, fitted):
    """All that the fitted detector is made of stands in the file as data."""
    described = read_guard(folder / "vote.keras").description
    assert described.detector == "vote" and described.roles == ("suspect", "repaired")
    assert [one.detector for one in described.rule] == ["soft", "strip", "sentinet"]
    assert [one.threshold for one in described.rule] == fitted["vote"].thresholds_
    assert described.input_range == InputRange(0, 1)
    strip = fitted["vote"].members[1]
    assert described.rule[1].hosts == tuple(strip.suspect.predict(strip.overlays_))
    saved = read_guard(folder / "vote.keras").overlays["strip"]
    np.testing.assert_allclose(saved, strip.overlays_ / np.float32(255), atol=1e-7)


def test_a_calibrated_guard_of_version_0_1_says_how_it_is_made_again(folder, tmp_path):
    def old(parts):
        parts["guard_rule"]["config"]["function"]["config"] = "badnet_defense>flag_above"

    path = changed(folder / "soft.keras", tmp_path / "old.keras", old)
    with pytest.raises(UnsafeNetError, match=r"made by version 0\.1 .* badnet-defense guard"):
        read_guard(path)


@pytest.mark.parametrize("name, count", [("strip", 11), ("sentinet", 6)])
def test_overlays_of_another_count_than_is_stored(name, count, folder, tmp_path):
    def other(parts):
        parts[f"{name}_images"]["config"]["count"] = count
        rule(parts)[0]["hosts"] = [0] * count

    path = changed(folder / f"{name}.keras", tmp_path / "changed.keras", other)
    with pytest.raises(UnsafeNetError, match=r"overlays.*shape"):
        read_guard(path)


def test_overlays_that_take_too_much_memory(folder, monkeypatch, with_limits):
    with_limits(isolate=False)
    monkeypatch.setattr(reading, "MAX_VALUES", 12 * 12 * 10 * 3 - 1)
    with pytest.raises(TooLargeError, match="too much memory"):
        read_guard(folder / "strip.keras")


def test_nets_of_different_shapes_are_refused(trio, tmp_path):
    narrow = keras.Sequential(
        [keras.Input((12, 10, 3)), keras.layers.Flatten(), keras.layers.Dense(CLASSES - 2)]
    )
    mixed = SoftDisagreement(trio[0], describe(narrow))
    mixed.threshold_ = 1.0
    build_calibrated_guard(mixed).save(tmp_path / "mixed.keras")
    with pytest.raises(UnsafeNetError, match="differ in shape"):
        read_guard(tmp_path / "mixed.keras")


def test_guard_of_another_range_is_refused(trio, tmp_path):
    wide = (net.with_range(InputRange(0, 255)) for net in trio[:2])
    wide = SoftDisagreement(*wide, config=DetectorConfig(RATE))
    build_calibrated_guard(wide.fit(CLEAN)).save(tmp_path / "wide.keras")
    assert read_guard(tmp_path / "wide.keras").description.input_range == InputRange(0, 255)
    Image.fromarray(PICTURES[0]).save(tmp_path / "one.png")
    ask = partial(classify_images, [tmp_path / "one.png"], tmp_path / "wide.keras", home=tmp_path)
    assert ask() == ask(input_range=InputRange(0, 255))
    with pytest.raises(InputError, match="give 0,255 as the input range"):
        ask(input_range=InputRange(0, 1))
