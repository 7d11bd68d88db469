"""What every evaluation is made of: texts, batches, losses, jobs, the runner."""
