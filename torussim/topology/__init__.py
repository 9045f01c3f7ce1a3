"""Networks of chips: networkx graphs with a bandwidth and a latency on every link. Imports nothing, to start fast."""
