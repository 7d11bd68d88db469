"""What an audit will do: configuration, budgets, candidates, rankings, evaluations."""
