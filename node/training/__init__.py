"""Training on one's own machine: a whole run as one segment, with files that survive whatever stops it."""

from node.training.loop import Schedule, train
from node.training.plan import Plan, fit_spec, make_plan
from node.training.run_directory import open_run

__all__ = ["Plan", "Schedule", "fit_spec", "make_plan", "open_run", "train"]
