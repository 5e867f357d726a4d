"""Settles how a net and labelled clean images fit: pixel range, numbering of the labels, at all.

Whatever disagrees systematically ruins every defence in silence: a repair would teach the net other
class numbers, a guard would flag nearly everything. What fits is found by the net's own answers.
"""

import logging
from dataclasses import replace

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.evaluation.metrics import wilson_interval
from badnet_defense.io.label_order import EXPLAINED, NAMES, VALUE, label_orders
from badnet_defense.io.listing import named
from badnet_defense.nets.input_range import UNIT, InputRange
from badnet_defense.nets.predict import predict_labels

_log = logging.getLogger("badnet_defense")

SAMPLE = 1000
LEAST_ACCURACY = 0.5
"""Of a suspect model on labelled clean images of many classes. Published classifiers of faces,
signs, digits and animals reach 60 to 99 %; one that reads its images or labels wrongly mostly stays
below 30 %, and on less than half of the images neither a repair nor a guard means anything."""
LEAST_LABELS = 3
"""Labels of fewer classes show no order: a net may well take all of class 4 for class 3."""
_RANGES = (UNIT, InputRange(0.0, 255.0), InputRange(-1.0, 1.0))
_CLEARLY, _USEFUL = 0.03, 0.3
"""How much better another reading must do, and how well at all, to be called the right one."""
_SIGNIFICANT = 0.01


def least_accuracy(classes):
    """What a suspect model of N classes must reach on clean images, in [0, 1].

    Half of the images, and a quarter of the way from chance to 1 where that is more: 62.5 % of two
    classes.
    """
    return max(LEAST_ACCURACY, (1 + 3 / classes) / 4)


def check_belonging(net, images, *, classes, input_range=UNIT, net_name="the net"):
    """Clean images with labels that are the net's class numbers, if it knows them well enough.

    The labels may be numbered by value, as text (as Keras and torchvision number class folders) or
    from one: the order that the net's answers fit is taken, and said through the logger.

    Args:
        net: `keras.Model`.
        images: clean `Dataset` with labels as they were read; unlabelled ones pass.
        classes: N.
        input_range: the range that was asked for.
        net_name: for messages.

    Returns:
        `Dataset` with labels 0..N-1 and the `label_order` that was found.

    Raises:
        InputError: another range or BGR fits clearly better, the labels are numbered in another
            order, or the net answers too few of the images with their label.
    """
    if images.labels is None:
        return images
    fit = _Fit(net, images, classes, input_range)
    fit.refuse_other_reading(net_name)
    order = fit.order()
    own, least = fit.accuracy(input_range, order), least_accuracy(classes)
    if own < least:
        fit.refuse_renumbered(net_name, own, least)
        low, high = wilson_interval(round(own * len(fit.rows)), len(fit.rows))
        raise InputError(
            f"{net_name} answers {own:.1%} of {images.source} with their label (95 %: {low:.0%} to "
            f"{high:.0%}, chance {1 / classes:.1%}), expected at least {least:.0%} of a suspect "
            f"model on clean images. Perhaps it takes other pixels (tried: {fit.tried()}; a mean "
            f"that is subtracted cannot be given), the labels are numbered otherwise (tried: "
            f"{', '.join(fit.orders)}), or these are not its images; without their labels they "
            "serve by --pseudo-labels."
        )
    return _settled(images, fit.orders, order, own)


def fitting_labels(net, images, *, classes, input_range=UNIT, net_name="the net"):
    """As `check_belonging`, where labels help but are not needed: those that do not fit go.

    Returns:
        `Dataset`, unlabelled where the labels are not the net's; that is said.

    Raises:
        InputError: another range or BGR fits clearly better.
    """
    if images.labels is None:
        return images
    try:
        fit = _Fit(net, images, classes, input_range)
    except InputError:  # the labels number no classes of this net in any order
        return _without(images)
    fit.refuse_other_reading(net_name)
    order = fit.order()
    own = fit.accuracy(input_range, order)
    if own < least_accuracy(classes):
        return _without(images)
    return _settled(images, fit.orders, order, own)


def check_range(net, images, *, classes, input_range=UNIT, net_name="the net"):
    """Refuses a range where another does clearly better, whatever else the labels are.

    Args:
        net, classes, input_range, net_name: as for `check_belonging`.
        images: `Dataset`; those without labels, or with other labels than the net's, pass.
    """
    if images.labels is not None:
        try:
            fit = _Fit(net, images, classes, input_range)
        except InputError:
            return
        fit.refuse_other_reading(net_name)


def measured_labels(net, images, *, classes, input_range=UNIT, net_name="the net"):
    """Images of which a net's accuracy is to be told, however low it is.

    Args:
        net, images, classes, input_range, net_name: as for `check_belonging`.

    Returns:
        `Dataset` with labels 0..N-1.

    Raises:
        InputError: another range does clearly better, or the labels number no classes of the net.
    """
    if images.labels is None:
        return images
    fit = _Fit(net, images, classes, input_range)
    if (images.labels != images.labels[0]).any():  # else always the same answer would fit best
        fit.refuse_other_reading(net_name)
    order = fit.order()
    return _settled(images, fit.orders, order, fit.accuracy(input_range, order))


def settled_sets(net, sets, *, classes, input_range=UNIT, net_name="the net"):
    """All sets of a measurement with labels that are the net's class numbers.

    Args:
        net, classes, input_range, net_name: as for `check_belonging`.
        sets: {part: `Dataset`}; those whose name begins with "clean" must be known to the
            net, the labels of others are an attacker's.

    Returns:
        {part: `Dataset`}, in the same order.
    """
    asked = {"classes": classes, "input_range": input_range, "net_name": net_name}
    found, orders = {}, {}
    for part, images in sets.items():
        if part.startswith("clean"):
            found[part] = check_belonging(net, images, **asked)
            if found[part].label_order is not None:
                orders.setdefault(found[part].label_order, found[part].source)
    if len(orders) > 1:
        told = "; ".join(f"{source} by {order}" for order, source in orders.items())
        _log.warning(
            "%s: the clean sets are numbered in different orders (%s), each as its answers fit",
            *(net_name, told),
        )
    usual = next(iter(orders)) if len(orders) == 1 else None
    for part, images in sets.items():
        if part not in found:
            found[part] = _attacked(net, images, classes, input_range, usual)
    return {part: found[part] for part in sets}


def _attacked(net, images, classes, input_range, usual):
    """Triggered images with the attacker's labels as the net's class numbers.

    They are numbered as the clean sets are (`usual`), unless the suspect model's answers, which an
    attack makes the attacker's, clearly show that they are numbered by value.
    """
    if images.labels is None:
        return images
    orders = label_orders(images, classes)
    by_value, usual = next(iter(orders)), usual if usual in orders else next(iter(orders))
    answers = predict_labels(net, images.images, input_range=input_range)
    success = {order: float(np.mean(answers == orders[order])) for order in (by_value, usual)}
    clearly = success[by_value] > max(success[usual] + _CLEARLY, LEAST_ACCURACY)
    order = by_value if clearly else usual
    _tell_other_target(images, answers, orders[order])
    return _settled(images, orders, order, success[order])


def _tell_other_target(images, answers, labels):
    """Says so where the suspect model sends most of a poisoned set to a class that it is not of."""
    answered = np.bincount(answers[answers >= 0], minlength=1)
    target = int(answered.argmax())
    if answered[target] > len(answers) / 2 and np.mean(labels == target) < 0.5:
        _log.warning(
            "%s: the suspect model answers %.0f%% of these images with class %d, which is the "
            "label of %.0f%% of them; poisoned images need the attacker's class as label, numbered "
            "as the model numbers its classes",
            images.source,
            *(100 * answered[target] / len(answers), target, 100 * np.mean(labels == target)),
        )


class _Fit:
    """A net's answers on a sample in each reading, beside the labels in each order.

    Raises:
        InputError: the labels number no classes of the net.
    """

    def __init__(self, net, images, classes, input_range):
        self.images, self.classes, self.asked = images, classes, input_range
        self.orders = label_orders(images, classes)
        if VALUE in self.orders and len(np.unique(images.labels)) < LEAST_LABELS:
            others = any((one != self.orders[VALUE]).any() for one in self.orders.values())
            if images.folders and others:
                _log.warning(
                    "%s: labels of fewer than %d classes do not show how they are numbered; they "
                    "are taken by value (not as text or from one)",
                    *(images.source, LEAST_LABELS),
                )
            self.orders = {VALUE: self.orders[VALUE]}
        self.rows = np.sort(np.random.default_rng(0).permutation(len(images))[:SAMPLE])
        pictures = images.images[self.rows]
        readings = [input_range, *(one for one in _RANGES if one != input_range)]
        self.answers = {one: predict_labels(net, pictures, input_range=one) for one in readings}
        if pictures.shape[-1] == 3:
            swapped = np.ascontiguousarray(pictures[..., ::-1])
            self.answers["BGR"] = predict_labels(net, swapped, input_range=input_range)

    def right(self, reading, order):
        """(m,) True where the answer is the label."""
        return self.answers[reading] == self.orders[order][self.rows]

    def accuracy(self, reading, order):
        return float(np.mean(self.right(reading, order)))

    def best_order(self, reading):
        """The order that most answers fit; of equal ones the first."""
        return max(self.orders, key=lambda order: self.accuracy(reading, order))

    def order(self):
        """The order to take: the first one, unless another fits clearly better."""
        usual, best = next(iter(self.orders)), self.best_order(self.asked)
        better = self._clearly(self.right(self.asked, best), self.right(self.asked, usual))
        return best if better else usual

    def refuse_other_reading(self, net_name):
        """Refuses the range that was asked for where another reading does clearly better."""
        own = self.right(self.asked, self.best_order(self.asked))
        others = {
            one: self.right(one, self.best_order(one)) for one in self.answers if one != self.asked
        }
        best = max(others, key=lambda one: np.mean(others[one]))
        if not self._clearly(others[best], own):
            return
        came = (
            f"{net_name} answers {np.mean(own):.1%} of {self.images.source} correctly with pixels "
            f"in {self.asked}, but {np.mean(others[best]):.1%} with "
        )
        if best == "BGR":
            raise InputError(
                f"{came}the colours in the order blue, green, red. Nets that take BGR cannot be "
                "asked yet: swap the input channels of its first layer, or of the images."
            )
        raise InputError(f"{came}{best}; give --input-range {best}.")

    def _clearly(self, other, own):
        """True where one set of right answers (m,) cannot be better than the other by chance."""
        from scipy.stats import binomtest

        gained, lost = int(np.sum(other & ~own)), int(np.sum(own & ~other))
        rate, least = np.mean(other), least_accuracy(self.classes)
        if rate <= max(np.mean(own) + _CLEARLY, _USEFUL):
            return False
        if np.mean(own) < least <= rate:
            return True
        sign_test = binomtest(gained, gained + lost, alternative="greater")
        return sign_test.pvalue <= _SIGNIFICANT

    def refuse_renumbered(self, net_name, own, least):
        """Refuses labels that would fit if they were renumbered, and says how."""
        labels = next(iter(self.orders.values()))[self.rows]
        if len(np.unique(labels)) < min(LEAST_LABELS, self.classes):
            return
        found = {one: _renumbered(given, labels) for one, given in self.answers.items()}
        best = max(found, key=lambda one: found[one][0])
        rate, classes_of = found[best]
        if rate < max(least, own + _CLEARLY):
            return
        names = self.images.folders if NAMES in self.orders else None
        moved = [
            f"{names[label] if names else label} is its class {class_}"
            for label, class_ in classes_of.items()
            if label != class_
        ]
        how = "" if best == self.asked else f" and with {best} for {self.asked}"
        what = "class folders" if self.images.folders else "labels"
        raise InputError(
            f"{net_name} answers {own:.1%} of {self.images.source} with their label, but "
            f"{rate:.1%} if the {what} are numbered in another order{how}: {named(moved)}. Name "
            "the class folders, or write the labels, by the net's own class numbers."
        )

    def tried(self):
        """The readings that were tried, in words."""
        return ", ".join("BGR" if one == "BGR" else f"range {one}" for one in self.answers)


def _renumbered(answers, labels):
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


def _assigned(answers, labels):
    """{label: class}, no class twice, that agrees with as many answers as possible."""
    from scipy.optimize import linear_sum_assignment

    numbers = answers >= 0  # below, the net's answers are no numbers
    known, rows = np.unique(labels[numbers], return_inverse=True)
    classes, columns = np.unique(answers[numbers], return_inverse=True)
    counts = np.zeros((len(known), len(classes)), np.int64)
    np.add.at(counts, (rows, columns), 1)
    places = linear_sum_assignment(counts, maximize=True)
    return {int(known[row]): int(classes[column]) for row, column in zip(*places, strict=True)}


def _settled(images, orders, order, accuracy):
    """The images with labels in an order; one that is not by value is said."""
    if order not in (VALUE, NAMES):
        _log.warning(
            "%s: labels are taken as numbered %s (%s), which fits %s of the net's answers",
            *(images.source, order, EXPLAINED[order], f"{accuracy:.1%}"),
        )
    return replace(images, labels=orders[order], label_order=order)


def _without(images):
    _log.warning(
        "%s: its labels are not the classes that the net answers; the images are used without them",
        images.source,
    )
    return images.without_labels()
