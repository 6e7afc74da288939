"""The HTTP interface: routes, options, schemas, uploads, responses.

May import `service.inference` and what lies below it.
"""
