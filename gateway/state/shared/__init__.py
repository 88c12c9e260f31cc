"""Hot state that several processes share, in Redis or Valkey (docs/decisions/0010)."""
