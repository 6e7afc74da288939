"""Synthetic pages with labelled lines for the line detector: `page_renderer.PageRenderer` renders them."""
