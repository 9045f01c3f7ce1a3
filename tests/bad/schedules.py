"""Collectives that are wrong, for the scenarios in this folder."""

# (a comment, so that the line below has a number of its own)


def raises(collective, lengths, ring):
    """Raise, as a function may."""
    assert collective.bytes > 0
    return [ring[lengths["z"]]]


def nonsense(collective, lengths, ring):
    """Return what is no list of phases."""
    return 7


def does_nothing(collective, lengths, ring):
    """Return phases in which no shard moves."""
    return []
