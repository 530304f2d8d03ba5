"""The HTTP API: Falcon resources that translate, call one operation, and translate back."""
