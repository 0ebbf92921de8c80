"""Clicks: what they are, how they are drawn for a network, how they are simulated, how clients send them."""

from .click import INSIDE, OUTSIDE, PADDING, Click, append_clicks, stack_clicks, unstack_clicks
from .encode import disc_guidance, gaussian_guidance
from .simulate import SakinisUser, SimulateClickd, SimulatedUser, chamfer_distance, most_probable, simulate_click
from .users import AnyUser, DeterministicUser, JitteredUser, LiuUser, StaticUser, WrongUser

__all__ = [
    "INSIDE",
    "OUTSIDE",
    "PADDING",
    "AnyUser",
    "Click",
    "DeterministicUser",
    "JitteredUser",
    "LiuUser",
    "SakinisUser",
    "SimulateClickd",
    "SimulatedUser",
    "StaticUser",
    "WrongUser",
    "append_clicks",
    "chamfer_distance",
    "disc_guidance",
    "gaussian_guidance",
    "most_probable",
    "simulate_click",
    "stack_clicks",
    "unstack_clicks",
]
