"""What tests of every kind share: an environment of their own, ports, pages of metrics, and waiting."""
