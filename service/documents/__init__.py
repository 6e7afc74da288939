"""From uploaded bytes to upright pictures: image files, multi-page files, PDF. Knows neither HTTP nor models."""
