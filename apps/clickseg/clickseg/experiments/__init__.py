"""Experiments, each one command: many trainings and tests, and a report."""

from .ablation import Ablation, parse_choice, plan_ablation, write_ablation_report
from .commands import Budget
from .jobs import ExperimentError, Job, run_jobs
from .sakinis import Design, plan_jobs
from .sakinis_report import write_sakinis_report
from .tis import TisDesign, plan_tis
from .tis_report import write_tis_report
from .weights import Examination, plan_examination
from .weights_report import write_examination_report

__all__ = [
    "Ablation",
    "Budget",
    "Design",
    "Examination",
    "ExperimentError",
    "Job",
    "TisDesign",
    "parse_choice",
    "plan_ablation",
    "plan_examination",
    "plan_jobs",
    "plan_tis",
    "run_jobs",
    "write_ablation_report",
    "write_examination_report",
    "write_sakinis_report",
    "write_tis_report",
]
