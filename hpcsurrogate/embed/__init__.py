"""Load an exported closure inside a solver; needs only core and torch."""
