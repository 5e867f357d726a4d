"""Whether a suspect model knows the clean images too well, by figures worked out by hand."""

import numpy as np

from badnet_defense.evaluation.memorised import memorised_caveat


def answers(count, wrong, sure):
    """(count, 2) probabilities for class 0, of which some are for class 1 instead."""
    found = np.tile([sure, 1 - sure], (count, 1))
    found[:wrong] = found[:wrong, ::-1]
    return found


ZEROS = np.zeros(1000, int)


def test_a_net_that_knows_its_images_by_heart():
    found = memorised_caveat(answers(1000, 0, 0.999), ZEROS)
    assert found.startswith("holds only if the suspect model was not trained on these images")
    assert "100.0 % of them correctly" in found
    assert "99.9 % of them correctly" in memorised_caveat(answers(1000, 1, 0.999), ZEROS)


def test_a_net_as_good_as_a_good_one_is_on_new_images():
    """The challenge's nets answer 97 to 99.3 % of new images right."""
    assert memorised_caveat(answers(1000, 7, 0.999), ZEROS) is None
    assert memorised_caveat(answers(1000, 25, 0.97), ZEROS) is None


def test_all_right_but_not_sure_is_luck():
    assert memorised_caveat(answers(30, 0, 0.95), ZEROS[:30]) is None


def test_unlabelled_images_are_judged_by_how_sure_it_is():
    assert "99.9 % on average" in memorised_caveat(answers(1000, 0, 0.999))
    assert memorised_caveat(answers(1000, 0, 0.99)) is None
