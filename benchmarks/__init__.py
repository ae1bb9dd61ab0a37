"""Programs that run the experiments: the only place that knows the environment and the agents."""
