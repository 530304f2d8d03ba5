"""Access: clients, API keys, console log-in, and their cache in API processes."""
