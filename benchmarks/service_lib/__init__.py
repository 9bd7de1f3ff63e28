"""Parts of the benchmark of a complete service (``benchmarks/service.py``)."""
