# SPDX-License-Identifier: Apache-2.0
"""The manual, built by ``make docs`` into build/docs; warnings are errors there.

furo is the theme because its pages ask nothing of the network: fonts, search
and styles are part of them, and a compute host's operator often reads them
from a file.  There is no intersphinx for the same reason.
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

from rbd_worker.version import VERSION  # noqa: E402

project = "rbd-worker"
author = "the authors of rbd-worker"
copyright = "the authors of rbd-worker, Apache-2.0"
version = release = VERSION

extensions = ["myst_parser", "manual"]
root_doc = "index"
exclude_patterns = ["_ext", "images"]
#: What stands between typographic quotation marks on these pages is what the
#: worker prints: each is looked for in its source.
manual_quoting_pages = ["behaviour/", "bugs/"]

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]
#: Files of the tree that are no pages (the unit, the sample) are named, not linked.
smartquotes = False

html_theme = "furo"
html_title = f"rbd-worker {VERSION}"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_show_sourcelink = False
html_copy_source = False
