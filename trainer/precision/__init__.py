"""Matrix products of eight-bit numbers: their formats, their scales, their gradients."""

from trainer.precision.product import FORMATS, low_precision_product

__all__ = ["FORMATS", "low_precision_product"]
