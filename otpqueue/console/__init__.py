"""The operators' pages, rendered on the server: what happens now, what became of a request, what is wrong."""
