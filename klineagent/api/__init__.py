"""The HTTP API: the command and status apps, access to them, and their OpenAPI documents."""
