"""How fast a model answers, measured from a process of its own, and the server's account of where the time went."""
