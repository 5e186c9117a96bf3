"""Images and rasters, rendered as georeferenced 8-bit RGB. Does not import torch."""

from lhrs.imagery.geo_image import GeoImage, Rendering
from lhrs.imagery.image import list_images, open_image

__all__ = ["GeoImage", "Rendering", "list_images", "open_image"]
