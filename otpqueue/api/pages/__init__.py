"""The hosted verification page: what the browser of a client's customer sees."""
