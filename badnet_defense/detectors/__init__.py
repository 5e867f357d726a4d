"""Run-time detectors: scores of single images, and thresholds with a promised FPR."""
