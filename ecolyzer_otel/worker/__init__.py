"""Inside the user's process: calls, wrapping, spans, and the background thread that reports to the meter."""
