"""What passes between a worker and its meter: protocol, links, peer identity, the socket server."""
