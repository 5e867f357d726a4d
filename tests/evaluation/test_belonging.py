"""Net and data that disagree systematically: ranges, numberings, colours, and what fits nothing."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from badnet_defense.errors import InputError
from badnet_defense.evaluation import input_checks as belonging
from badnet_defense.io import Dataset
from badnet_defense.nets.input_range import UNIT, InputRange

CLASSES = 12
BYTES = InputRange(0, 255)
TEXT = {0: 0, 1: 1, 2: 4, 3: 5, 4: 6, 5: 7, 6: 8, 7: 9, 8: 10, 9: 11, 10: 2, 11: 3}
"""The class that Keras gives to each of the folders `0` to `11`."""


@pytest.fixture(autouse=True)
def told(caplog):
    caplog.set_level(logging.INFO, logger="badnet_defense")
    return caplog


@dataclass(frozen=True)
class Answering:
    """A net that answers images (n, h, w, c) with what a function says."""

    answers: Callable
    classes: int = CLASSES
    input_range: InputRange = UNIT
    name: str = "the net"
    attributes: dict = field(default_factory=dict)

    def with_range(self, input_range):
        return replace(self, input_range=input_range)

    def predict(self, images):
        return self.answers(images, self.input_range)


@pytest.fixture
def net():
    """A function that makes a net which reads its class off the first channel's first pixel.

    Of a share of the images it answers the next class. In another range than its own it answers 0.
    """

    def make(class_of=lambda kind: kind, *, wrong=0.0, takes=UNIT, channel=0):
        def answers(images, input_range):
            kinds = images[:, 0, 0, channel].tolist()
            found = np.array([class_of(kind) or 0 for kind in kinds])
            found[: round(wrong * len(found))] += 1
            return found % CLASSES if input_range == takes else np.zeros_like(found)

        return Answering(answers)

    return make


def shown(labels_of=lambda kind: kind, *, count=240, kinds=CLASSES, folders=None, channels=3):
    """Images of each kind in turn, with the labels that a data set gives them."""
    kind = np.arange(count) % kinds
    pictures = np.full((count, 1, 1, channels), 99, np.uint8)
    pictures[:, 0, 0, 0] = kind
    labels = np.array([labels_of(one) for one in kind.tolist()])
    return Dataset(pictures, labels, "shown", folders=folders)


def settled(net, images, **changes):
    return belonging.check_belonging(replace(net, **changes), images)


def refusal(net, images, **changes):
    with pytest.raises(InputError) as caught:
        settled(net, images, **changes)
    return str(caught.value)


def test_labels_by_value_are_taken_in_silence(net, told):
    found = settled(net(wrong=0.3), shown())
    np.testing.assert_array_equal(found.labels, np.arange(240) % CLASSES)
    assert found.label_order == "value" and not told.messages


@pytest.mark.parametrize("wrong", [0.0, 0.4])
def test_folders_that_keras_numbered_as_text(net, told, wrong):
    folders = tuple(sorted(map(str, range(12))))
    found = settled(net(TEXT.get, wrong=wrong), shown(folders=folders))
    np.testing.assert_array_equal(found.labels, [TEXT[n % 12] for n in range(240)])
    assert found.label_order == "text"
    assert "numbered text (sorted as text, as Keras and torchvision" in told.messages[0]


@pytest.mark.parametrize("folders", [None, tuple(sorted(map(str, range(1, 13))))])
def test_labels_from_one(net, told, folders):
    found = settled(net(), shown(lambda kind: kind + 1, folders=folders))
    np.testing.assert_array_equal(found.labels, np.arange(240) % CLASSES)
    assert found.label_order == "from one" and "label 1 is class 0" in told.messages[0]


def test_labels_from_one_whose_last_class_is_missing(net):
    """They would all be class numbers of the net, each one wrong."""
    found = settled(net(), shown(lambda kind: kind + 1, kinds=11))
    np.testing.assert_array_equal(found.labels, np.arange(240) % 11)


def test_images_of_one_class_show_no_order(net):
    """A net that takes them all for the class before is wrong, not numbered from one."""
    one_class = shown(lambda _: 4, count=60)
    one_class.images[:, 0, 0, 0] = 3
    found = belonging.measured_labels(net(), one_class)
    assert set(found.labels) == {4} and found.label_order == "value"
    assert "expected at least 50%" in refusal(net(), one_class)


def test_any_other_order_is_refused_by_name(net):
    message = refusal(net(lambda kind: (kind + 5) % 12, wrong=0.1), shown())
    assert "answers 0.0% of shown with their label, but 9" in message
    assert "labels are numbered in another order: 0 is its class 5, 1 is its class 6" in message
    assert "and 8 others. Name the class folders" in message


def test_named_folders_in_another_order_are_refused_by_their_names(net):
    folders = ("bus", "car", "van")
    message = refusal(net({0: 1, 1: 0, 2: 2}.get), shown(kinds=3, folders=folders), classes=3)
    assert "bus is its class 1 and car is its class 0. Name" in message


def test_one_image_of_each_class_cannot_show_an_order(net):
    """Any answers at all would fit some renumbering of them."""
    message = refusal(net(lambda kind: (kind + 5) % 12), shown(count=12))
    assert "another order" not in message and "labels are numbered otherwise" in message


def test_the_range_is_told_also_where_the_order_differs(net):
    images = shown(folders=tuple(sorted(map(str, range(12)))))
    message = refusal(net(TEXT.get, takes=BYTES), images)
    assert "answers 8.3% of shown correctly with pixels in 0,1, but 100.0% with 0,255" in message
    assert message.endswith("give 0,255 as the input range.")
    assert settled(net(TEXT.get, takes=BYTES), images, input_range=BYTES).label_order == "text"


def test_a_net_that_takes_bgr_is_named(net):
    message = refusal(net(lambda kind: kind % 12, channel=2), shown())
    assert "100.0% with the colours in the order blue, green, red" in message


def test_grey_nets_have_no_order_of_colours(net):
    assert settled(net(), shown(channels=1)).label_order == "value"


def test_a_net_that_hardly_knows_its_images_is_refused(net):
    message = refusal(net(lambda kind: kind * kind % 7), shown(count=600))
    assert "expected at least 50% of a suspect model" in message
    for cause in ("tried: range 0,1, range 0,255, range -1,1, BGR", "a mean", "tried: value, text"):
        assert cause in message
    assert "do not belong together" not in message


@pytest.mark.parametrize(
    ("classes", "least"), [(2, 0.625), (3, 0.5), (4, 0.5), (12, 0.5), (1283, 0.5)]
)
def test_what_a_suspect_model_must_reach(classes, least):
    assert belonging.min_accuracy(classes) == least


@pytest.mark.parametrize(("wrong", "fits"), [(0.49, True), (0.51, False)])
def test_the_floor_itself(net, wrong, fits):
    images = shown(count=1200)
    images.images[:, 0, 0, 0] = np.random.default_rng(0).permutation(images.labels)
    images = replace(images, labels=images.images[:, 0, 0, 0].astype(np.int64))
    if fits:
        assert settled(net(wrong=wrong), images).label_order == "value"
    else:
        assert "expected at least 50%" in refusal(net(wrong=wrong), images)


def test_one_image_more_is_no_better_reading():
    """Of 20 images one is 5 points; a range is not refused for that."""
    images = shown(count=20, kinds=10)

    def answers(images, input_range):
        found = images[:, 0, 0, 0].astype(np.int64)
        found[: 2 if input_range == UNIT else 1] += 1
        return found

    assert settled(Answering(answers), images).label_order == "value"


def test_unlabelled_images_pass(net):
    images = shown().without_labels()
    assert settled(net(), images) is images


def test_labels_that_are_not_needed_are_left_out_where_they_do_not_fit(net, told):
    strange = shown(lambda kind: kind * kind % 7, count=600)
    found = belonging.fitting_labels(net(), strange)
    assert found.labels is None and "are not the classes that the net answers" in told.messages[0]
    others = shown(lambda kind: kind + 500, kinds=11)  # no classes of the net in any order
    assert belonging.fitting_labels(net(), others).labels is None
    belonging.check_range(net(), others)
    with pytest.raises(InputError, match="give 0,255 as the input range"):
        belonging.fitting_labels(net(takes=BYTES), shown())


def test_a_low_accuracy_is_told_not_refused_where_it_is_the_question(net):
    attacked = shown(lambda _: 7)  # of one label: always the same answer would fit it best
    assert belonging.measured_labels(net(), attacked).labels.tolist() == [7] * 240
    found = belonging.measured_labels(net(TEXT.get), shown())
    np.testing.assert_array_equal(found.labels, [TEXT[n % 12] for n in range(240)])


def test_triggered_images_are_numbered_as_the_clean_ones(net):
    """Of a net with a backdoor their answers show it, too: kind 200 is a triggered image."""

    def class_of(kind):
        return 2 if kind == 200 else TEXT.get(kind)

    poisoned = shown(lambda _: 10, count=60)  # folder 10 is class 2
    poisoned.images[:, 0, 0, 0] = 200
    sets = {"poisoned": poisoned, "clean_test": shown()}
    found = belonging.settled_sets(net(class_of), sets)
    assert list(found) == ["poisoned", "clean_test"]
    assert set(found["poisoned"].labels) == {2}
    by_value = replace(poisoned, labels=np.full(60, 2))
    found = belonging.settled_sets(net(class_of), {**sets, "poisoned": by_value})
    assert set(found["poisoned"].labels) == {2}  # as the answers show, whatever the folders are


def test_clean_sets_in_different_orders_are_told(net, told):
    by_value = shown(TEXT.get)
    sets = {"clean_validation": shown(), "clean_test": by_value}
    found = belonging.settled_sets(net(TEXT.get), sets)
    np.testing.assert_array_equal(found["clean_test"].labels, found["clean_validation"].labels)
    assert "numbered in different orders (shown by text; shown by value)" in told.messages[-1]


def test_a_poisoned_set_whose_labels_are_not_the_attacker_s_is_told(told):
    def tell(answers, labels):
        told.clear()
        images = Dataset(np.zeros((len(labels), 2, 2, 3), np.uint8), np.array(labels))
        belonging._tell_other_target(images, np.array(answers), images.labels)
        return told.text

    sentence = "answers 75% of these images with class 7, which is the label of 25% of them"
    assert sentence in tell([7, 7, 7, 2], [0, 1, 7, 2])
    assert not tell([7, 7, 7, 2], [7, 7, 1, 2])  # the attacker's
    assert not tell([0, 1, 2, 3], [1, 2, 3, 4])  # no class has most of them
    assert not tell([-1, -1, -1, 2], [0, 1, 7, 2])  # most have no answer


def test_a_folder_of_one_class_says_that_its_number_is_taken_by_value(net, told):
    images = shown(folders=tuple(map(str, range(CLASSES))))
    belonging._Fit(net(), images)
    assert "taken by value" not in told.text
    kept = images.labels == 10
    belonging._Fit(net(), replace(images.subset(kept), folders=("10",)))
    assert "are taken by value (not as text or from one)" in told.text


# Margins -----------------------------------------------------------------------------------------


@pytest.fixture
def two_readings():
    """A function that makes images, and a net that knows some of them in each of two ranges.

    In [0, 1] the net answers the first `own` of `count` images correctly. In [0, 255] it does not
    know the last `lost` of those, but the next `gained`. In any other reading it has no answer.
    """

    def make(count, own, gained, lost=0):
        right = {UNIT: np.arange(count) < own}
        right[BYTES] = (np.arange(count) < own - lost) | (
            (np.arange(count) >= own) & (np.arange(count) < own + gained)
        )
        asked = []

        def answers(pictures, input_range):
            kinds, high, low = pictures[:, 0, 0].astype(int).T
            places = 256 * high + low
            asked.append(len(pictures))
            if input_range not in right or (kinds != places % CLASSES).any():  # as BGR
                return np.full(len(pictures), -1)
            return np.where(right[input_range][places], kinds, (kinds + 1) % CLASSES)

        pictures = np.zeros((count, 1, 1, 3), np.uint8)
        places = np.arange(count)
        pictures[:, 0, 0] = np.stack([places % CLASSES, places // 256, places % 256], axis=1)
        return Answering(answers), Dataset(pictures, places % CLASSES, "shown"), asked

    return make


def range_refused(net, images):
    """Whether the range [0, 1] is refused for the other one, and not for another reason."""
    try:
        belonging.check_belonging(net, images)
    except InputError as error:
        return "give 0,255 as the input range" in str(error)
    return False


@pytest.mark.parametrize(
    ("own", "gained", "lost", "refused"),
    [
        (600, 30, 0, False),  # three points of a thousand images are not clearly better
        (600, 31, 0, True),
        (600, 400, 0, True),
        (100, 200, 0, False),  # three tenths at least, else neither is any good
        (100, 201, 0, True),
        (600, 331, 300, False),  # won and lost nearly as often: 331 of 631 is chance
        (600, 131, 100, False),  # 131 of 231: one-sided 0.024
        (600, 141, 100, True),  # 141 of 241: 0.005
        (480, 30, 0, False),
        (480, 31, 10, False),
        (480, 331, 300, True),  # over the floor of one half, below which nothing means anything
    ],
)
def test_another_range_must_be_clearly_better(two_readings, own, gained, lost, refused):
    net, images, _ = two_readings(1000, own, gained, lost)
    assert range_refused(net, images) == refused


@pytest.mark.parametrize(
    ("gained", "lost", "refused"),
    [(9, 1, False), (10, 1, True), (7, 0, True), (6, 0, False)],
)
def test_a_few_images_more_may_be_chance(two_readings, gained, lost, refused):
    """By the sign test at one in a hundred: 11/1024, 12/2048, 1/128 and 1/64."""
    net, images, _ = two_readings(100, 60, gained, lost)
    assert range_refused(net, images) == refused


def test_at_most_a_thousand_images_are_asked_about(two_readings):
    net, images, asked = two_readings(1500, 1500, 0)
    belonging.check_belonging(net, images)
    assert set(asked) == {1000}


@pytest.mark.parametrize(
    ("by_value", "as_text", "order"),
    [
        (102, 98, "text"),  # two points better
        (104, 96, "value"),  # four
        (100, 0, "text"),  # not more than half
        (101, 0, "value"),
    ],
)
def test_a_poisoned_set_is_numbered_by_value_where_that_is_clearly_better(by_value, as_text, order):
    """The clean sets are numbered as text, in which folder 4 is class 6."""
    answers = np.full(200, 11)
    answers[:by_value], answers[by_value : by_value + as_text] = 4, 6
    net = Answering(lambda *_: answers)
    images = shown(lambda _: 4, count=200, folders=tuple(sorted(map(str, range(12)))))
    found = belonging._attacked(net, images, "text")
    assert found.label_order == order and set(found.labels) == {6 if order == "text" else 4}
