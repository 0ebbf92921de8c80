"""What stands between clients and MONAI Label's own endpoints."""

from .background import give_way, in_background
from .careful import CarefulRequests
from .routes import add_routes

__all__ = ["CarefulRequests", "add_routes", "give_way", "in_background"]
