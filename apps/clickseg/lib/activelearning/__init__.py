"""What to label next, by name."""

from monailabel.tasks.activelearning.first import First

from .leases import Leased, Leases
from .random import Random
from .uncertainty import ForegroundEntropy, Uncertainty

STRATEGIES = {"random": Random, "first": First, "uncertainty": Uncertainty}

__all__ = ["STRATEGIES", "ForegroundEntropy", "Leased", "Leases"]
