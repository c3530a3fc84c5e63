"""Runs the code cells of a notebook one after the other, with nothing but Python: what a test can do anywhere.

    python3 run_notebook.py analysis.ipynb      # in the folder that the notebook is to see

Prints what the cells print. An error ends it and names the cell; magics (%, !) are no Python and are errors too.
"""
import json, pathlib, sys, traceback


def run(path):
    """The names that a notebook's cells leave behind."""
    cells = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))["cells"]
    names = {"__name__": "__main__"}
    for number, cell in enumerate(cells, 1):
        if cell["cell_type"] == "code":
            code = compile("".join(cell["source"]), f"{path}, cell {number}", "exec")
            exec(code, names)
    return names


if __name__ == "__main__":
    try:
        run(sys.argv[1])
    except Exception:
        traceback.print_exc()
        sys.exit(1)
