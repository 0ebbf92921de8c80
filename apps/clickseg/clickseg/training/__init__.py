"""Training: the K-interaction step (Sakinis 2019, III-C) and the trainer that app, bundle and command line share."""

from .interact import Interact, click_of, click_schedule
from .run import ClickTrainer, Clock, Plan
from .trainer import build_trainer, open_trainer

__all__ = ["ClickTrainer", "Clock", "Interact", "Plan", "build_trainer", "click_of", "click_schedule", "open_trainer"]
