"""Aggregates and the ways out of the meter: /metrics, OTLP, the application's MeterProvider, the journal."""
