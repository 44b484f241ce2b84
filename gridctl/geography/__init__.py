"""Geography: cities, countries, regions, jurisdictions, and grids generated from them."""
