"""Programs for this repository: the site, the wheel, pictures, models."""
