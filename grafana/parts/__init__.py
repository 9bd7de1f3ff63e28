"""The parts of ``generate.py``: definitions of dashboards, rules and manifests."""
