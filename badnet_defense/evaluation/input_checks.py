"""Settles how a net and labelled clean images fit: pixel range, numbering of the labels, at all.

Whatever disagrees systematically ruins every defence in silence: a repair would teach the net other
class numbers, a guard would flag nearly everything. What fits is found by the net's own answers.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.evaluation.metrics import wilson_interval
from badnet_defense.io.dataset import Dataset
from badnet_defense.io.label_order import EXPLAINED, NAMES, VALUE, label_orders
from badnet_defense.io.listing import join_names
from badnet_defense.nets.input_range import UNIT, InputRange
from badnet_defense.nets.net import Net

_log = logging.getLogger("badnet_defense")

SAMPLE = 1000
MIN_ACCURACY = 0.5
"""Of a suspect model on labelled clean images of many classes. Published classifiers of faces,
signs, digits and animals reach 60 to 99 %; one that reads its images or labels wrongly mostly stays
below 30 %, and on less than half of the images neither a repair nor a guard means anything."""
MIN_LABELS = 3
"""Labels of fewer classes show no order: a net may well take all of class 4 for class 3."""
BGR = "BGR"
"""The colours in the order blue, green, red, among the readings of an image."""
_RANGES = (UNIT, InputRange(0.0, 255.0), InputRange(-1.0, 1.0))
_CLEARLY, _USEFUL = 0.03, 0.3
"""How much better another reading must do, and how well at all, to be called the right one."""
_SIGNIFICANT = 0.01


def min_accuracy(classes: int) -> float:
    """What a suspect model of N classes must reach on clean images, in [0, 1].

    Half of the images, and a quarter of the way from chance to 1 where that is more: 62.5 % of two
    classes.
    """
    return max(MIN_ACCURACY, (1 + 3 / classes) / 4)


def check_belonging(net: Net, data: Dataset) -> Dataset:
    """Clean images with labels that are the net's class numbers, if it knows them well enough.

    The labels may be numbered by value, as text (as Keras and torchvision number class folders) or
    from one: the order that the net's answers fit is taken, and said through the logger.

    Args:
        net: the suspect model, with the input range that is to be checked.
        data: clean images with labels as they were read; unlabelled ones pass.

    Returns:
        The data with labels 0..N-1 and the `label_order` that was found.

    Raises:
        InputError: another range or BGR fits clearly better, the labels are numbered in another
            order, or the net answers too few of the images with their label.
    """
    if data.labels is None:
        return data
    fit = _Fit(net, data)
    fit.refuse_other_reading()
    order = fit.order()
    own, least = fit.accuracy(net.input_range, order), min_accuracy(net.classes)
    if own < least:
        fit.refuse_renumbered(own, least)
        low, high = wilson_interval(round(own * len(fit.rows)), len(fit.rows))
        raise InputError(
            f"{fit.name} answers {own:.1%} of {data.source} with their label (95 %: {low:.0%} to "
            f"{high:.0%}, chance {1 / net.classes:.1%}), expected at least {least:.0%} of a "
            f"suspect model on clean images. Perhaps it takes other pixels (tried: {fit.tried()}; "
            f"a mean that is subtracted cannot be given), the labels are numbered otherwise "
            f"(tried: {', '.join(fit.orders)}), or these are not its images; without "
            "their labels they serve with pseudo-labels."
        )
    return _settled(data, fit.orders, order, own)


def fitting_labels(net: Net, data: Dataset) -> Dataset:
    """As `check_belonging`, where labels help but are not needed: those that do not fit go.

    Returns:
        The data, unlabelled where the labels are not the net's; that is said.

    Raises:
        InputError: another range or BGR fits clearly better.
    """
    if data.labels is None:
        return data
    try:
        fit = _Fit(net, data)
    except InputError:  # the labels number no classes of this net in any order
        return _without(data)
    fit.refuse_other_reading()
    order = fit.order()
    own = fit.accuracy(net.input_range, order)
    if own < min_accuracy(net.classes):
        return _without(data)
    return _settled(data, fit.orders, order, own)


def check_range(net: Net, data: Dataset) -> None:
    """Refuses a range where another does clearly better, whatever else the labels are.

    Args:
        net: as for `check_belonging`.
        data: images; those without labels, or with other labels than the net's, pass.
    """
    if data.labels is not None:
        try:
            fit = _Fit(net, data)
        except InputError:
            return
        fit.refuse_other_reading()


def measured_labels(net: Net, data: Dataset) -> Dataset:
    """Images of which a net's accuracy is to be told, however low it is.

    Args:
        net, data: as for `check_belonging`.

    Returns:
        The data with labels 0..N-1.

    Raises:
        InputError: another range does clearly better, or the labels number no classes of the net.
    """
    if data.labels is None:
        return data
    fit = _Fit(net, data)
    if (data.labels != data.labels[0]).any():  # else always the same answer would fit best
        fit.refuse_other_reading()
    order = fit.order()
    return _settled(data, fit.orders, order, fit.accuracy(net.input_range, order))


def settled_sets(net: Net, sets: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """All sets of a measurement with labels that are the net's class numbers.

    Args:
        net: as for `check_belonging`.
        sets: {part: data}; those whose name begins with "clean" must be known to the
            net, the labels of others are an attacker's.

    Returns:
        {part: data}, in the same order.
    """
    settled: dict[str, Dataset] = {}
    orders: dict[str, str] = {}
    for part, data in sets.items():
        if part.startswith("clean"):
            settled[part] = check_belonging(net, data)
            order = settled[part].label_order
            if order is not None:
                orders.setdefault(order, data.source)
    if len(orders) > 1:
        told = "; ".join(f"{source} by {order}" for order, source in orders.items())
        _log.warning(
            "%s: the clean sets are numbered in different orders (%s), each as its answers fit",
            *(_name(net), told),
        )
    usual = next(iter(orders)) if len(orders) == 1 else None
    for part, data in sets.items():
        if part not in settled:
            settled[part] = _attacked(net, data, usual)
    return {part: settled[part] for part in sets}


def _attacked(net: Net, data: Dataset, usual: str | None) -> Dataset:
    """Triggered images with the attacker's labels as the net's class numbers.

    They are numbered as the clean sets are (`usual`), unless the suspect model's answers, which an
    attack makes the attacker's, clearly show that they are numbered by value.
    """
    if data.labels is None:
        return data
    orders = label_orders(data, net.classes)
    by_value = next(iter(orders))
    if usual is None or usual not in orders:
        usual = by_value
    answers = net.predict(data.images)
    success = {order: float(np.mean(answers == orders[order])) for order in (by_value, usual)}
    clearly = success[by_value] > max(success[usual] + _CLEARLY, MIN_ACCURACY)
    order = by_value if clearly else usual
    _tell_other_target(data, answers, orders[order])
    return _settled(data, orders, order, success[order])


def _tell_other_target(data: Dataset, answers: np.ndarray, labels: np.ndarray) -> None:
    """Says so where the suspect model sends most of a poisoned set to a class that it is not of."""
    answered = np.bincount(answers[answers >= 0], minlength=1)
    target = int(answered.argmax())
    if answered[target] > len(answers) / 2 and np.mean(labels == target) < 0.5:
        _log.warning(
            "%s: the suspect model answers %.0f%% of these images with class %d, which is the "
            "label of %.0f%% of them; poisoned images need the attacker's class as label, numbered "
            "as the model numbers its classes",
            data.source,
            *(100 * answered[target] / len(answers), target, 100 * np.mean(labels == target)),
        )


def _name(net: Net) -> str:
    """What messages call a net: its file, if it came from one."""
    return str(net.attributes.get("file", net.name))


class _Fit:
    """A net's answers on a sample in each reading, beside the labels in each order.

    Raises:
        InputError: the labels number no classes of the net.
    """

    def __init__(self, net: Net, data: Dataset) -> None:
        self.name, self.classes, self.asked = _name(net), net.classes, net.input_range
        self.data, self.orders = data, label_orders(data, net.classes)
        assert data.labels is not None
        if VALUE in self.orders and len(np.unique(data.labels)) < MIN_LABELS:
            others = any((one != self.orders[VALUE]).any() for one in self.orders.values())
            if data.folders and others:
                _log.warning(
                    "%s: labels of fewer than %d classes do not show how they are numbered; they "
                    "are taken by value (not as text or from one)",
                    *(data.source, MIN_LABELS),
                )
            self.orders = {VALUE: self.orders[VALUE]}
        self.rows = np.sort(np.random.default_rng(0).permutation(len(data))[:SAMPLE])
        images = data.images[self.rows]
        readings = [self.asked, *(one for one in _RANGES if one != self.asked)]
        self.answers: dict[InputRange | str, np.ndarray] = {
            one: net.with_range(one).predict(images) for one in readings
        }
        if images.shape[-1] == 3:
            self.answers[BGR] = net.predict(np.ascontiguousarray(images[..., ::-1]))

    def right(self, reading: InputRange | str, order: str) -> np.ndarray:
        """(m,) True where the answer is the label."""
        return self.answers[reading] == self.orders[order][self.rows]

    def accuracy(self, reading: InputRange | str, order: str) -> float:
        """The share of answers in this reading that are the label in this order."""
        return float(np.mean(self.right(reading, order)))

    def best_order(self, reading: InputRange | str) -> str:
        """The order that most answers fit; of equal ones the first."""
        return max(self.orders, key=lambda order: self.accuracy(reading, order))

    def order(self) -> str:
        """The order to take: the first one, unless another fits clearly better."""
        usual, best = next(iter(self.orders)), self.best_order(self.asked)
        better = self._clearly(self.right(self.asked, best), self.right(self.asked, usual))
        return best if better else usual

    def refuse_other_reading(self) -> None:
        """Refuses the range that was asked for where another reading does clearly better."""
        own = self.right(self.asked, self.best_order(self.asked))
        others = {
            one: self.right(one, self.best_order(one)) for one in self.answers if one != self.asked
        }
        best = max(others, key=lambda one: np.mean(others[one]))
        if not self._clearly(others[best], own):
            return
        came = (
            f"{self.name} answers {np.mean(own):.1%} of {self.data.source} correctly with pixels "
            f"in {self.asked}, but {np.mean(others[best]):.1%} with "
        )
        if best == BGR:
            raise InputError(
                f"{came}the colours in the order blue, green, red. Nets that take BGR cannot be "
                "asked yet: swap the input channels of its first layer, or of the images."
            )
        raise InputError(f"{came}{best}; give {best} as the input range.")

    def _clearly(self, other: np.ndarray, own: np.ndarray) -> bool:
        """True where one set of right answers (m,) cannot be better than the other by chance."""
        from scipy.stats import binomtest

        gained, lost = int(np.sum(other & ~own)), int(np.sum(own & ~other))
        rate, least = np.mean(other), min_accuracy(self.classes)
        if rate <= max(np.mean(own) + _CLEARLY, _USEFUL):
            return False
        if np.mean(own) < least <= rate:
            return True
        sign_test = binomtest(gained, gained + lost, alternative="greater")
        return sign_test.pvalue <= _SIGNIFICANT

    def refuse_renumbered(self, own: float, least: float) -> None:
        """Refuses labels that would fit if they were renumbered, and says how."""
        labels = next(iter(self.orders.values()))[self.rows]
        if len(np.unique(labels)) < min(MIN_LABELS, self.classes):
            return
        found = {one: _renumbered(given, labels) for one, given in self.answers.items()}
        best = max(found, key=lambda one: found[one][0])
        rate, classes_of = found[best]
        if rate < max(least, own + _CLEARLY):
            return
        names = self.data.folders if NAMES in self.orders else None
        moved = [
            f"{names[label] if names else label} is its class {class_}"
            for label, class_ in classes_of.items()
            if label != class_
        ]
        how = "" if best == self.asked else f" and with {best} for {self.asked}"
        what = "class folders" if self.data.folders else "labels"
        raise InputError(
            f"{self.name} answers {own:.1%} of {self.data.source} with their label, but "
            f"{rate:.1%} if the {what} are numbered in another order{how}: {join_names(moved)}. "
            "Name the class folders, or write the labels, by the net's own class numbers."
        )

    def tried(self) -> str:
        """The readings that were tried, in words."""
        return ", ".join(BGR if one == BGR else f"range {one}" for one in self.answers)


def _renumbered(answers: np.ndarray, labels: np.ndarray) -> tuple[float, dict[int, int]]:
    """How well answers fit labels that are renumbered one to one: (rate, {label: class}).

    Each half of the images is judged by the renumbering that fits the other half best, so that few
    images of a class say nothing. The renumbering that is given is of all.
    """
    halves = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        halves[np.flatnonzero(labels == label)[::2]] = True
    right = 0
    for half in (halves, ~halves):
        fitted = _assigned(answers[half], labels[half])
        right += sum(
            fitted.get(label) == answer
            for label, answer in zip(labels[~half].tolist(), answers[~half].tolist(), strict=True)
        )
    return right / len(labels), _assigned(answers, labels)


def _assigned(answers: np.ndarray, labels: np.ndarray) -> dict[int, int]:
    """{label: class}, no class twice, that agrees with as many answers as possible."""
    from scipy.optimize import linear_sum_assignment

    numbers = answers >= 0  # below, the net's answers are no numbers
    known, rows = np.unique(labels[numbers], return_inverse=True)
    classes, columns = np.unique(answers[numbers], return_inverse=True)
    counts = np.zeros((len(known), len(classes)), np.int64)
    np.add.at(counts, (rows, columns), 1)
    places = linear_sum_assignment(counts, maximize=True)
    return {int(known[row]): int(classes[column]) for row, column in zip(*places, strict=True)}


def _settled(
    data: Dataset, orders: Mapping[str, np.ndarray], order: str, accuracy: float
) -> Dataset:
    """The images with labels in an order; one that is not by value is said."""
    if order not in (VALUE, NAMES):
        _log.warning(
            "%s: labels are taken as numbered %s (%s), which fits %s of the net's answers",
            *(data.source, order, EXPLAINED[order], f"{accuracy:.1%}"),
        )
    return replace(data, labels=orders[order], label_order=order)


def _without(data: Dataset) -> Dataset:
    _log.warning(
        "%s: its labels are not the classes that the net answers; the images are used without them",
        data.source,
    )
    return data.without_labels()
