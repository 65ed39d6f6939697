"""How the site is built: `python -m sphinx -W --keep-going -b html docs docs/_build/html`, without network."""

import os
import sys
from pathlib import Path

# The matrices of the pages are small: threads of BLAS only wait for each other.
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "XOCTNORM_PROGRESS": "0"}

import sphinx_autosummary_accessors

import xoctnorm  # registers the accessor, for autosummary

sys.path.insert(0, str(Path(__file__).parent))  # building.py, pictures.py

project = "xoctnorm"
author = "The xoctnorm developers"
project_copyright = author
version = release = xoctnorm.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_autosummary_accessors",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "building",
]
exclude_patterns = ["_build", "gallery/*.ipynb", "gallery/*.py", "gallery/*.json", "gallery/*.zip"]

# Every reference has to lead somewhere, but for those to other projects, whose pages are not fetched, for types, and
# for what else stands in single backticks: names of parameters and dims, shapes, formulas.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(collections|dask|datetime|distributed|matplotlib|numpy|np|os|pathlib|pandas|pd|typing|xarray|xr)\b.*"),
    ("py:class", r"(Any|ArrayLike|Axes|DTypeLike|Hashable|Literal|Mask|Mapping|NDArray|NoiseFloor|Path|Sequence)"),
    ("py:obj", r"[a-z_]+|.*\(.*\)|linumpy\..*"),
]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

# Pages that begin with `file_format: mystnb` are run. A cell that fails, or warns, stops the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_execution_show_tb = True
nb_merge_streams = True
nb_output_stderr = "error"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "building.ExampleOrder",
    "thumbnail_size": (520, 400),
    "reset_argv": "building.example_arguments",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
}

default_role = "py:obj"
autodoc_typehints_format = "short"
autodoc_type_aliases = {name: name for name in ("ArrayLike", "DTypeLike", "Mask", "NDArray", "NoiseFloor")}
autosummary_generate = True
numpydoc_show_class_members = False
python_maximum_signature_line_length = 88
templates_path = ["templates", sphinx_autosummary_accessors.templates_path]
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "pydata_sphinx_theme"
html_title = "xoctnorm"
html_sidebars = {page: [] for page in ("index", "quickstart", "tutorial")}  # which have no pages below them
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "xoctnorm"},
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
