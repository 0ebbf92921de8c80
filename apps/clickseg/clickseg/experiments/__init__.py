"""Experiments of the papers, each one command: many trainings and tests, and a report with the paper's numbers."""

from .jobs import ExperimentError, Job, run_jobs
from .sakinis import Design, plan_jobs
from .sakinis_report import write_sakinis_report

__all__ = ["Design", "ExperimentError", "Job", "plan_jobs", "run_jobs", "write_sakinis_report"]
