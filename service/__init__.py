"""HTTP service, command line and Python client of Linewise. Programs import `linewise.service.client`."""
