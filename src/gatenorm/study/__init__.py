"""Tables and figures of the paper as recipes: what to measure, what the paper reports, whether its claims hold here."""
