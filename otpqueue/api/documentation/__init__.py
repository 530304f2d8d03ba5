"""The documentation as a site: the Markdown files of `docs/`, rendered by the API below `/docs`."""
