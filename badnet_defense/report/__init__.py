"""Tables and plots: reads results, computes nothing."""

from badnet_defense.report.plots import plot_pruning_curve
from badnet_defense.report.tables import defense_table, summary_table

__all__ = ["defense_table", "plot_pruning_curve", "summary_table"]
