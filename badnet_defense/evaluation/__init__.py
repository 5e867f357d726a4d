"""Metrics, evaluation of a defence, and checks whether a net and its data belong together."""
