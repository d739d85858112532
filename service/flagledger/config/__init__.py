"""One frozen configuration: flags > `FLAGLEDGER_*` variables > `flagledger.toml` > defaults."""

from flagledger.config.load import (
    DEFAULT_FILE,
    VARIABLE_PREFIX,
    ConfigError,
    LoadedSettings,
    load_config,
    load_settings,
)
from flagledger.config.model import Config
from flagledger.config.values import MASK, mask_url, parse_address

__all__ = [
    "DEFAULT_FILE",
    "MASK",
    "VARIABLE_PREFIX",
    "Config",
    "ConfigError",
    "LoadedSettings",
    "load_config",
    "load_settings",
    "mask_url",
    "parse_address",
]
