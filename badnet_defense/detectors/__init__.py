"""Run-time detectors: scores of single images, and thresholds with a promised FPR.

Examples:
    >>> from badnet_defense.detectors import DETECTORS
    >>> DETECTORS.names()
    ('hard', 'soft', 'nll', 'expert', 'strip', 'sentinet', 'vote')
"""

from badnet_defense.detectors.base import Detector, DetectorConfig
from badnet_defense.detectors.calibration import ExpectedRate
from badnet_defense.detectors.registry import DETECTORS, make_detector

__all__ = ["DETECTORS", "Detector", "DetectorConfig", "ExpectedRate", "make_detector"]
