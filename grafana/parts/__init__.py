"""The parts of ``generate.py``: what the dashboards, rules and manifests are made from."""
