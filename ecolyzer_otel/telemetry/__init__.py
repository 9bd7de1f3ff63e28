"""What the meter knows, on its way out: the metric store, its exporters, and spans."""
