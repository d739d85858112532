"""One frozen configuration: flags > `FLAGLEDGER_*` variables > `flagledger.toml` > defaults."""
