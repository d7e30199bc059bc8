"""The 48 categories of Toybox, each a function from random draws to parts.

Every function draws proportions, styles and optional parts, so that two instances of
one category can be told apart by their shape alone. Objects face the viewer (+z) in
their most telling view; the size does not matter, `toybox_parts.pack` sets it.
"""

from sbir_jax.data import (
    toybox_buildings,
    toybox_food,
    toybox_furniture,
    toybox_nature,
    toybox_tools,
    toybox_vehicles,
)

MODULES = (
    toybox_buildings,
    toybox_food,
    toybox_furniture,
    toybox_nature,
    toybox_tools,
    toybox_vehicles,
)
SHAPES = {
    name: shape
    for module in MODULES
    for name, shape in vars(module).items()
    if getattr(shape, "__module__", None) == module.__name__
}
