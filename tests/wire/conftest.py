"""A meter behind a real Unix socket, and peers that send whatever a test wants them to."""

from support.peers import listener, meter

__all__ = ["listener", "meter"]
