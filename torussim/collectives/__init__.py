"""Collectives: the contract of each kind, the algorithms, and the choice among them (`lower`)."""
