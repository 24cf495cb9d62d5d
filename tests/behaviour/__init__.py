"""Through the public face alone: the client, runs, the command."""
