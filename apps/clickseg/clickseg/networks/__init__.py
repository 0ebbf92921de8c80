"""Networks: torch modules only, without clicks, files or frames."""

from .encoder3d import Encoder3d, plan_strides
from .refiner import ClickTokens, Refiner, RefinerDesign, Tokens
from .unet import UNet

__all__ = ["ClickTokens", "Encoder3d", "Refiner", "RefinerDesign", "Tokens", "UNet", "plan_strides"]
