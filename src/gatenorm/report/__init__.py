"""What people look at: plots and, from records alone, reports."""
