"""Tables of shardings that are wrong, for the scenarios in this folder."""

# (a comment, so that the line below has a number of its own)


def raises(sizes):
    """Raise, as a function may."""
    return {"residual": sizes.batch / 0}


def unsound(sizes, axis):
    """Return two tensors of the many."""
    return {"residual": "B L E", "w_in": f"E_{axis} F"}
