"""Webhooks: where clients are notified, and the deliveries."""
