"""The Infobip 2FA API: the client, its words, and what we set up there."""
