"""Parts of the overhead benchmark: workloads, variants, workers, statistics, table and picture."""
