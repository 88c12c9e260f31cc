"""The benchmark: how much processor time a metered request costs, and compared with whom."""
