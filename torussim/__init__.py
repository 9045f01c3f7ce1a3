"""torussim: how long a transformer's step takes on this interconnect, and what is to blame."""
