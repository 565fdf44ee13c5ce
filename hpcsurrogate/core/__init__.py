"""Ground floor: errors, configuration, field registry, artifact metadata, provenance, logging, atomic files."""
