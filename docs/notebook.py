"""Runs the notebook and keeps its outputs: `.venv/bin/python docs/notebook.py`."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import nbclient
import nbformat

NOTEBOOK = Path(__file__).with_name("notebook.ipynb")


def executed() -> str:
    """The notebook as it is after a run, without what differs from run to run."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(NOTEBOOK.with_name("sov.csv"), folder)
        resources = {"metadata": {"path": folder}}
        nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    notebook.metadata.pop("language_info", None)  # names the version of Python
    for cell in notebook.cells:
        cell.metadata.clear()
        for output in cell.get("outputs", ()):
            _clean(output.get("data", {}))
            output.pop("metadata", None)
            if output.output_type in {"execute_result", "display_data"}:
                output["metadata"] = {}
    return nbformat.writes(notebook) + "\n"  # type: ignore[no-any-return,no-untyped-call]


def _clean(data: dict[str, Any]) -> None:
    """Keep of a table its HTML alone, and of progress no time."""
    if "text/html" in data:
        data.pop("text/plain", None)
        table = re.sub(r"<style scoped>.*?</style>", "", data["text/html"], flags=re.DOTALL)
        data["text/html"] = re.sub(r"\n\s*", "\n", table)
    elif "text/plain" in data:
        data["text/plain"] = re.sub(r"\d+\.\d s", "0.5 s", data["text/plain"])


def markdown(notebook: str) -> str:
    """The notebook as a page: what is written, the code, and what it printed."""
    parts: list[str] = []
    for cell in nbformat.reads(notebook, as_version=4).cells:  # type: ignore[no-untyped-call]
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {})
            if "text/html" in data:
                parts.append(f"```{{raw}} html\n{data['text/html']}\n```")
            else:
                parts.append(f"```text\n{output.get('text') or data['text/plain']}\n```")
    return "\n\n".join(parts)


if __name__ == "__main__":
    NOTEBOOK.write_text(executed(), encoding="utf-8")
