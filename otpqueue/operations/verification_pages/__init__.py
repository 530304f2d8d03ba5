"""The hosted verification page: create a link, serve its visitor, redeem the result."""
