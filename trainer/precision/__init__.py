"""Matrix products of eight-bit numbers: their formats, their scales, their gradients."""

from trainer.precision.product import FORMATS, low_precision_product
from trainer.precision.units import products_report, with_available_products

__all__ = ["FORMATS", "low_precision_product", "products_report", "with_available_products"]
