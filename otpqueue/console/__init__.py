"""The console: server-rendered pages for operators."""
