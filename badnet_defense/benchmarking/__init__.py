"""Many models, repairs and detectors: comparison, leaderboard, audit of a zoo."""
