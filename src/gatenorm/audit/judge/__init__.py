"""What the figures say: gates, verdict, search, cost and benefit."""
