"""Finding a net's target labels: inverted triggers and which of them are suspiciously small."""
