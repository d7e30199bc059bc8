"""The 48 categories of Toybox, each a function from random draws to parts.

Every function draws proportions, styles and optional parts, so that two instances of
one category can be told apart by their shape alone. Objects face the viewer (+z) in
their most telling view; the size does not matter, `parts.pack` sets it.
"""

from sbir_jax.data.toybox import buildings, food, furniture, nature, tools, vehicles

MODULES = (
    buildings,
    food,
    furniture,
    nature,
    tools,
    vehicles,
)
SHAPES = {
    name: shape
    for module in MODULES
    for name, shape in vars(module).items()
    if getattr(shape, "__module__", None) == module.__name__
}
