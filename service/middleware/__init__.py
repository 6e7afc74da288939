"""ASGI middleware and guards in front of the routes: keys, limits, request context. Knows no models."""
