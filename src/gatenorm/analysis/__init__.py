"""How far to trust a ranking: agreement, bounds, curves, diagnostics."""
