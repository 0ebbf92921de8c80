"""Networks: torch modules only, without clicks, files or frames."""

from .unet import UNet

__all__ = ["UNet"]
