"""clickseg: click-based segmentation of medical images (the library; it never imports monailabel)."""

__version__ = "0.1.0"
