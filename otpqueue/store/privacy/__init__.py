"""What each table holds of a person, and how it is purged, erased, resealed and rehashed."""
