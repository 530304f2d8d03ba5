"""Queries on webhook endpoints and deliveries."""
