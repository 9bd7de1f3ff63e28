"""What one inference call pays for being measured: workloads, variants, workers, statistics, the picture."""
