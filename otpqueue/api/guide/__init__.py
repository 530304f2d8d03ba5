"""The two calls of the public guide, with its field names, statuses and error codes."""
