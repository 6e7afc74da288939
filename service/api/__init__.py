"""The HTTP interface: routes, options, schemas and their documentation. `linewise.service.app` includes the routes."""
