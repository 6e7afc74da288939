"""Pure ASGI middleware, authentication and connection limits. Import from the modules."""
