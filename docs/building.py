"""What the building of the site needs beside Sphinx and its extensions."""

import re
import tempfile
from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml, unichar2tex
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Write formulas as MathML, which browsers draw without a script that would come from elsewhere."""
    app.connect("autodoc-process-signature", _readable)
    app.add_html_math_renderer("mathml", (_formula, None), (_formula, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _formula(writer: Any, node: nodes.Element) -> None:
    is_block = isinstance(node, nodes.math_block)
    tex = node.astext().translate(unichar2tex.uni2tex_table)
    mathml = latex2mathml.tex2mathml(tex, as_block=is_block)
    writer.body.append(f'<div class="formula">{mathml}</div>' if is_block else mathml)
    raise nodes.SkipNode


def _readable(
    app: Sphinx, what: str, name: str, thing: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Write classes and aliases of types as their names; Sphinx can neither parse nor break ``<class …>``."""
    return signature and re.sub(r"(?:<class |TypeAliasForwardRef\()'([\w.]+)'[>)]", r"\1", signature), returns


class ExampleOrder:
    """Order of the examples in the gallery."""

    def __init__(self, folder: str) -> None:
        self.names = ["quickstart.py", "drift_methods.py", "ome_zarr_pipeline.py"]

    def __call__(self, name: str) -> int:
        """Place of an example; those that are not named here come last."""
        return self.names.index(name) if name in self.names else len(self.names)


def example_arguments(gallery: dict[str, Any], script: dict[str, Any]) -> list[str]:
    """Arguments of the examples of the gallery: what the quickstart writes goes to a temporary folder."""
    return ["--out", tempfile.mkdtemp()] if script["src_file"].endswith("quickstart.py") else []
