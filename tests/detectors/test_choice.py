"""How many clean images each detector takes, by hand, and what is said of fewer."""

from unittest.mock import Mock

import numpy as np
import pytest

from badnet_defense.detectors.hard_disagreement import HardDisagreement
from badnet_defense.detectors.nll import NLL
from badnet_defense.detectors.registry import (
    DETECTORS,
    check_enough,
    make_detector,
    needs_repair,
    overlays_needed,
    threshold_images,
)
from badnet_defense.detectors.sentinet import SentiNet
from badnet_defense.detectors.soft_disagreement import SoftDisagreement
from badnet_defense.detectors.strip import Strip
from badnet_defense.errors import InputError
from badnet_defense.workflows.cross_fitting import unseen_share


@pytest.mark.parametrize(
    ("name", "rate", "needed"),
    [
        ("soft", 0.05, 19),  # the largest of 19 scores is passed by 1 new one in 20
        ("soft", 0.3, 10),  # five folds of two
        ("sentinet", 0.05, 16 + 19),
        ("strip", 0.01, 100 + 99),
        ("vote", 0.05, 16 + 39),  # two members, each with its own oddest image
        ("hard", 0.01, 5),
    ],
)
def test_needed_by_hand(name, rate, needed):
    check_enough(name, needed, rate, source="clean.h5")
    with pytest.raises(InputError) as refusal:
        check_enough(name, needed - 1, rate, source="clean.h5")
    assert f"clean.h5: detector {name!r} needs at least {needed} clean images" in str(refusal.value)
    assert f"got {needed - 1}; give more images" in str(refusal.value)


def test_the_sentence_says_what_helps():
    with pytest.raises(InputError, match=r"false-positive rate of 5 %, got 4; .* a higher rate\."):
        check_enough("soft", 4, 0.05, source="four.h5")
    with pytest.raises(InputError, match=r"got 4; give more images\."):  # 16 are composed with
        check_enough("sentinet", 4, 0.05, source="four.h5")


def test_a_repair_that_is_not_made_again_leaves_a_part():
    share = unseen_share("scan-unlearning")
    assert unseen_share("fine-pruning") == 1.0 and share < 0.5
    with pytest.raises(InputError, match=r"only 15\.0% of them may set the threshold"):
        check_enough("soft", 126, 0.05, source="clean.h5", fraction=0.15)
    check_enough("soft", 127, 0.05, source="clean.h5", fraction=0.15)  # 0.15 * 127 is 19.05


def test_every_detector_has_a_least_count():
    assert all(threshold_images(name, 0.01) >= 5 for name in DETECTORS.names())


def test_the_vote_s_members_see_what_the_other_one_misses():
    """One asks the repair, the other only the suspect model: a repair that keeps the backdoor, and
    a trigger over the whole picture, each blind one of them.
    """
    net, overlays = Mock(), np.zeros((20, 4, 4, 3), np.uint8)
    nets = {"suspect": net, "repaired": Mock()}
    vote = make_detector("vote", nets, overlays=overlays, false_positive_rate=0.02)
    assert [type(one) for one in vote.members] == [SoftDisagreement, SentiNet]
    assert vote.members[0].nets == nets and vote.members[1].nets == {"suspect": net}
    assert len(vote.members[1].overlays_) == overlays_needed("vote") == 16
    assert {one.config.false_positive_rate for one in (vote, *vote.members)} == {0.02}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("hard", HardDisagreement), ("soft", SoftDisagreement), ("nll", NLL)),
        *(("strip", Strip), ("sentinet", SentiNet)),
    ],
)
def test_each_detector_by_its_name(name, kind):
    nets = {"suspect": Mock(), "repaired": Mock()}
    found = make_detector(name, nets, overlays=np.zeros((120, 4, 4, 3), np.uint8))
    assert type(found) is kind
    assert needs_repair(name) == ("repaired" in found.nets) == (overlays_needed(name) == 0)


def test_old_and_unknown_names_are_refused_with_today_s():
    with pytest.raises(InputError, match="detector 'surprise' is now called 'nll'"):
        make_detector("surprise", {})
    with pytest.raises(InputError, match="detector 'none' is unknown; expected one of hard, soft"):
        make_detector("none", {})
