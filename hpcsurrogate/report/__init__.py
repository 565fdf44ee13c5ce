"""Figures and the one HTML page with the verdict. The whole room needs matplotlib, which a plain install leaves out."""

from hpcsurrogate.core.errors import ConfigError

try:
    import matplotlib  # noqa: F401
except ModuleNotFoundError:
    raise ConfigError("the report needs matplotlib, which is missing: pip install 'hpcsurrogate[plots]'") from None
