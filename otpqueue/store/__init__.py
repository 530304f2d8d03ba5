"""Postgres through SQLAlchemy Core: schema, engine, sealed columns, one module of queries a subject."""
