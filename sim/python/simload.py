"""Results of `warren sim run --out` and `warren sim sweep --out`, for Python. Nothing but the standard library.

    import simload
    study = simload.load("results")     # a folder of either kind
    study.rows                          # one dict a seed, or a point and metric of a sweep
    study.column("first_p50")           # one metric of each seed
    study.curves["first"]               # {microseconds: count}, all seeds together
"""
import collections, csv, json, pathlib

Study = collections.namedtuple("Study", "folder about rows curves column")


def number(text):
    """A field as int or float; anything else stays text, nothing is None."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text or None


def table(path):
    """The rows of a CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        return [{key: number(it) for key, it in row.items()} for row in csv.DictReader(file)]


def load(folder):
    """Everything that a folder of results says."""
    folder = pathlib.Path(folder)
    swept = (folder / "sweep.json").exists()
    about = json.loads((folder / ("sweep.json" if swept else "manifest.json")).read_text())
    rows = table(folder / ("sweep.csv" if swept else "seeds.csv"))
    curves = collections.defaultdict(collections.Counter)
    for seed in folder.glob("**/seeds/*.json"):
        for name, counts in json.loads(seed.read_text())["report"]["curves"].items():
            curves[name].update(dict(counts))
    return Study(folder, about, rows, dict(curves), lambda name: [row[name] for row in rows])
