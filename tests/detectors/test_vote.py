"""The vote: any member above its share, at one joint rate."""

import numpy as np
import pytest
from guard_pairs import PICTURES, two_nets
from small_detectors import CLEAN, RATE, made

from badnet_defense.detectors import DetectorConfig
from badnet_defense.detectors.soft_disagreement import SoftDisagreement
from badnet_defense.detectors.vote import Vote
from badnet_defense.errors import InputError
from badnet_defense.guards.calibrated import build_calibrated_guard
from badnet_defense.nets import describe


def test_vote_is_any_member_above_its_share(trio):
    vote = made("vote", trio).fit(CLEAN)
    found = [one.anomaly_score(PICTURES) for one in vote.members]
    above = [scores > limit for scores, limit in zip(found, vote.thresholds_, strict=True)]
    np.testing.assert_array_equal(
        vote.anomaly_score(PICTURES) > vote.threshold_, np.any(above, axis=0)
    )


def test_vote_s_scores_by_hand(trio):
    """Clean scores 1..9 and 10, 20, .. 90; a picture with 8.5 and 15 has one and eight above."""

    class Fixed(SoftDisagreement):
        def anomaly_score(self, pictures):
            return pictures[:, 0, 0, 0] * self.scale

    members = [Fixed(*trio[:2]), Fixed(*trio[:2])]
    members[0].scale, members[1].scale = 1.0, -10.0
    vote = Vote(members, config=DetectorConfig(0.25))
    vote.fit(np.arange(1.0, 10.0)[:, None, None, None])
    found = vote.anomaly_score(np.array([8.5, 0.5, 5.0])[:, None, None, None])
    np.testing.assert_allclose(found, -np.log10([2 / 10, 1 / 10, 6 / 10]))
    # Of nine pictures two may pass: 9 is the oddest of the one, 1 of the other member.
    assert vote.thresholds_ == [9, -10] and vote.expected_.rate == pytest.approx(0.2)


@pytest.mark.parametrize("count", [99, 300])
def test_vote_keeps_to_the_joint_rate(count, trio):
    """Two members whose scores have nothing to do with each other."""
    rng = np.random.default_rng(4)

    class Drawn(SoftDisagreement):
        def anomaly_score(self, pictures):
            return rng.standard_normal(len(pictures))

    rates, promised = [], []
    for _ in range(200):
        vote = Vote([Drawn(*trio[:2]), Drawn(*trio[:2])], config=DetectorConfig(0.05))
        vote.fit(np.zeros(count))
        rates.append(np.mean(vote.anomaly_score(np.zeros(4000)) > vote.threshold_))
        promised.append(vote.expected_.rate)
    assert np.mean(rates) < 0.052 and abs(np.mean(rates) - np.mean(promised)) < 0.006


def test_vote_with_too_few_pictures(trio):
    members = [made("soft", trio), made("nll", trio)]
    scores = np.array([[1.0, 2, 3, 4, 5, 6, 7, 8, 9], [9, 8, 7, 6, 5, 4, 3, 2, 1]])
    with pytest.raises(InputError, match=r"joint threshold of 2 detectors .* got 9"):
        Vote(members, config=DetectorConfig(0.1)).fit_scores(scores)


def test_vote_s_file_takes_members_of_different_kinds_and_the_same_nets(trio):
    for members in (
        [made("soft", trio), made("soft", trio)],
        [made("soft", trio), made("nll", (*map(describe, two_nets()), None))],
    ):
        with pytest.raises(ValueError, match="different kinds with the same nets"):
            build_calibrated_guard(Vote(members, config=DetectorConfig(RATE)).fit(CLEAN))
