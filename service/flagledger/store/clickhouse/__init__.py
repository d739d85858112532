"""The ClickHouse store: a server over HTTP, or its engine within the process (chDB)."""
