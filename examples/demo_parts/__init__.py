"""The parts of ``demo.py``: service, traffic, receiver, report."""
