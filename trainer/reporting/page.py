"""The parts of a report's page: HTML that needs no script, no font and no network.

It looks like the page on the data, preprocessing/layout_page.py, which a cluster must be able to
write without this package. Everything that comes from outside is escaped here.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6570; --line: #d8dde3;
  --page: #ffffff; --s0: #2f6fb5; --s1: #c2571a; --s2: #2b8a57; --s3: #8a4fb0; --s4: #b5384f;
  --s5: #66727f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #9aa4af; --line: #333a42;
  --page: #15181c; --s0: #6ea8e6; --s1: #f0a067; --s2: #6fcf97; --s3: #c79be8; --s4: #f08a9b;
  --s5: #a5b0bb; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 78rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; } h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { color: var(--soft); margin: .25rem 0; max-width: 60rem; overflow-wrap: anywhere; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .75rem;
  margin: .5rem 0 1rem; }
.facts div { border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .75rem; }
.facts dt { color: var(--soft); font-size: .85rem; }
.facts dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr));
  gap: 1.5rem; align-items: start; margin: 1rem 0; }
figure { margin: 0; min-width: 0; } figcaption { font-weight: 600; font-size: .95rem; }
figure p { font-size: .85rem; line-height: 1.4; }
.keys { display: flex; flex-wrap: wrap; gap: 0 1rem; font-size: .85rem; color: var(--ink); }
.keys i { display: inline-block; width: .7rem; height: .7rem; border-radius: 50%;
  margin-right: .35rem; background: var(--s0); }
svg { display: block; width: 100%; height: auto; }
svg text { font: 11.5px system-ui, sans-serif; fill: var(--soft); }
path { fill: none; stroke-linejoin: round; stroke-width: 1.6; }
path.grid { stroke: var(--line); stroke-width: 1; opacity: .6; }
path.axis { stroke: var(--soft); stroke-width: 1; }
path.guide { stroke: var(--soft); stroke-dasharray: 4 4; stroke-width: 1.2; }
.line { stroke: var(--s0); } .band, .area { fill: var(--s0); opacity: .22; }
path.area { stroke: var(--s0); opacity: 1; fill-opacity: .22; stroke-width: 1.2; }
.dot { fill: var(--s0); } .hollow { stroke: var(--s0); fill: var(--page); stroke-width: 1.5; }
SERIES
.wide { overflow-x: auto; } details { margin: .25rem 0; } summary { cursor: pointer;
  color: var(--soft); font-size: .85rem; } details .wide { max-height: 20rem; overflow: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { text-align: right; padding: .2rem .6rem; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 500; font-size: .85rem; }
th:first-child, td:first-child { text-align: left; }
pre { overflow: auto; max-height: 30rem; padding: .8rem; border: 1px solid var(--line);
  border-radius: .4rem; font-size: .85rem; }
""".replace(
    "SERIES",
    "\n".join(
        f".line.s{k}, .area.s{k}, .hollow.s{k} {{ stroke: var(--s{k}); }} .band.s{k}, .area.s{k}, "
        f".dot.s{k} {{ fill: var(--s{k}); }} .keys i.s{k} {{ background: var(--s{k}); }}"
        for k in range(1, 6)
    ),
)


def page(title: str, body: Iterable[str]) -> str:
    """The whole document."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def heading(level: int, words: str) -> str:
    """A heading, 2 or 3."""
    return f"<h{level}>{escape(words)}</h{level}>"


def text(words: str) -> str:
    """A paragraph."""
    return f"<p>{escape(words)}</p>"


def facts(values: Mapping[str, str]) -> str:
    """Names and values in boxes."""
    boxes = (f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in values.items())
    return f'<dl class="facts">{"".join(boxes)}</dl>'


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table that scrolls by itself where the page is narrow; the first row is its head."""
    head, *others = rows
    cells = [_row("th", head), *(_row("td", row) for row in others)]
    return f'<div class="wide"><table>{"".join(cells)}</table></div>'


def figure(
    title: str, svg: str, rows: Sequence[Sequence[str]], *, keys: Sequence[str] = (), note: str = ""
) -> str:
    """A plot with its title, keys of its series, a note, and its numbers in a table."""
    parts = "".join(f'<span><i class="s{k}"></i>{escape(key)}</span>' for k, key in enumerate(keys))
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        + (f'<div class="keys">{parts}</div>' if keys else "")
        + svg
        + (text(note) if note else "")
        + f"<details><summary>Numbers</summary>{table(rows)}</details></figure>"
    )


def plots(figures: Iterable[str]) -> str:
    """Figures side by side, as many as there is room for."""
    return f'<div class="plots">{"".join(figures)}</div>'


def folded(title: str, words: str) -> str:
    """Text that opens on a click."""
    return f"<details><summary>{escape(title)}</summary><pre>{escape(words)}</pre></details>"


def _row(tag: str, values: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(value)}</{tag}>' for value in values)}</tr>"
