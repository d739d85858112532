"""Routes of the SDKs that are out there already, as adapters onto the one servicer."""
