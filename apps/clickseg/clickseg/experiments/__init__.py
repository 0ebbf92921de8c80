"""Experiments, each one command: many trainings and tests, and a report."""

from .ablation import Ablation, parse_choice, plan_ablation, write_ablation_report
from .commands import Budget
from .jobs import ExperimentError, Job, run_jobs
from .sakinis import Design, plan_jobs
from .sakinis_report import write_sakinis_report

__all__ = [
    "Ablation",
    "Budget",
    "Design",
    "ExperimentError",
    "Job",
    "parse_choice",
    "plan_ablation",
    "plan_jobs",
    "run_jobs",
    "write_ablation_report",
    "write_sakinis_report",
]
