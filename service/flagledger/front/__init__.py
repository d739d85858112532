"""The two protocols: gRPC, and JSON over HTTP, before one servicer."""
