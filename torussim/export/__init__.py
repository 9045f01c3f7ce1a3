"""A timeline for other tools: a Perfetto trace, tables, Chakra execution traces. Reads a Timeline, and nothing of the engine."""
