"""How an audit is carried out: jobs, state, executors, the workflow."""
