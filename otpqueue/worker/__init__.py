"""The Celery side: the application, its thin tasks and the beat schedule."""
