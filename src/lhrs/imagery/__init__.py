"""Pictures and rasters in, eight-bit RGB views with a way back to the ground out. No torch."""

from lhrs.imagery.geo_image import GeoImage, Rendering
from lhrs.imagery.image import list_images, open_image

__all__ = ["GeoImage", "Rendering", "list_images", "open_image"]
