"""How Sphinx builds the site: `make docs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

import rtdenoise

project = "rtdenoise"
author = "the rtdenoise authors"
copyright = f"2026, {author}"
version = release = rtdenoise.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated"]
myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3
default_role = "code"  # docstrings write `name`
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Shape", "notes_style")]
smartquotes = False  # "--raw" in a sentence stays an option
exclude_patterns = ["_*"]

html_theme = "furo"
html_title = f"rtdenoise {release}"
html_static_path = ["_static", "../examples/before.mp3", "../examples/after.mp3"]
html_css_files = ["site.css"]
html_theme_options = {"footer_icons": [], "top_of_page_buttons": []}
html_copy_source = html_show_sourcelink = False
