"""From OpenStreetMap and imagery to images with facts and captions (LHRS-Align, LHRS-Align-Recap)."""
