"""Postgres through SQLAlchemy Core: schema, engine, sealed columns, and one module of queries per subject."""
