"""Guards: models that answer as the suspect model does, or N where an image looks poisoned."""
