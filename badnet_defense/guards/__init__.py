"""Guards: models that answer as the bad net does, or N where a picture looks poisoned."""
