"""The dashboard: one page over the query API, its files, and the cookie that stands in for a reader's token."""
