"""Between a worker and its meter: protocol, links, the worker's background thread, the meter's server."""
