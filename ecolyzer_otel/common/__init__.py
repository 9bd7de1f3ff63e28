"""What both sides share: names on the wire, options, errors, pure helpers. No I/O but the configuration file."""
