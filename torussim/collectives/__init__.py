"""Collectives: what each promises (contract), the algorithms, and the choice among them (lower)."""
