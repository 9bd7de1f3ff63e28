"""Parts of the benchmark of a whole service (``benchmarks/service.py``)."""
