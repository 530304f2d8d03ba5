"""The personal data in each table: purging, erasing, resealing and rehashing it."""
