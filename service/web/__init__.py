"""The demo page at `/`. `linewise.service.app` includes its router, `page.page`."""
