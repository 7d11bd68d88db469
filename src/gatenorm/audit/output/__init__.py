"""What an audit writes: its record, reports, model cards, commands to repeat."""
