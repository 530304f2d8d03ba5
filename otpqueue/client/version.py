"""The version of the client library."""

VERSION = "0.2.0"
