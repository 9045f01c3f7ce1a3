"""The engine: `simulate.simulate` runs a program on a network; the only place that imports simpy."""
