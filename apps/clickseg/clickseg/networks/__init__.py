"""Networks: torch modules only, without clicks, files or frames."""

from .refiner import ClickTokens, Refiner, RefinerDesign, Tokens
from .unet import UNet, widened

__all__ = ["ClickTokens", "Refiner", "RefinerDesign", "Tokens", "UNet", "widened"]
