"""The report of `marginals audit` in a browser: clicks and keys, and what the page then shows.

    python3 report.py MARGINALS [PICTURES]

MARGINALS is the program; pictures of the pages go to the folder PICTURES, if it is named. The numbers
that the page shows are compared with `audit.json`, which does not go through the page's packing.
"""

import csv
import glob
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

from devtools import Browser

# Tokens that would do something if they were markup, and characters that tables and addresses mind.
HOSTILE = 'A "word", <b>bold</b> </script><script>document.title = "taken"</script> <!-- & 1;2\tß é 漢\u202e\n'
HOSTILE += "She said so, and he said so, and they all said so in the end. " * 3

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), *[".."] * 4)
DEFAULT_MODEL = os.path.join(ROOT, "crates", "marginals-cli", "data", "default-model")

THEMES = ("light", "dark")
WIDTHS = (1200, 400)
# Smallest letters that can be read, in pixels.
LEGIBLE = 8.5


def audit(program, folder, *arguments):
    """Runs an audit; returns where the report lies, and the documents beside it."""
    subprocess.run([program, "audit", *arguments, "--out", folder], check=True, stdout=subprocess.DEVNULL)
    documents = []
    for name in ("audit.json", "compared.json"):
        if os.path.exists(os.path.join(folder, name)):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                documents.append(json.load(file))
    return os.path.join(folder, "report.html"), documents


def expect(holds, *what):
    if not holds:
        raise AssertionError(" ".join(map(str, what)))


def letters(document):
    """Tokens that have a place to be clicked at; a line break has none."""
    tokens = document["text"]["tokens"]
    return [index for index, token in enumerate(tokens) if token["piece"].isalpha()]


class Page:
    """What a reader of the page sees."""

    def __init__(self, browser):
        self.browser = browser

    def bars(self, pane=0):
        """Tokens among the bars with their shares in percent; −1 is all other keys."""
        return [
            (int(token), float(share.rstrip("%")))
            for token, share in self.browser.run(
                f"""[...document.querySelectorAll("#pane-{pane} .key")].map((row) =>
                    [row.dataset.token ?? "-1", row.querySelector("span").textContent])"""
            )
        ]

    def show_all(self):
        if self.browser.run('document.querySelector("#pane-0 .more")?.textContent.startsWith("all")'):
            self.browser.click("#pane-0 .more")

    def shown(self):
        """The head, the token and the first bars."""
        return self.head(), self.token(), self.bars()[:3]

    def hash(self):
        return self.browser.run("location.hash")

    def title(self, pane=0):
        return self.browser.run(f"""document.querySelector('#pane-{pane} [data-part=asked]').textContent""")

    def note(self, pane=0):
        return self.browser.run(f"""document.querySelector('#pane-{pane} [data-part=note]').textContent""")

    def token(self, pane=0):
        return int(re.search(r"\(token (\d+)\)", self.title(pane)).group(1))

    def head(self, pane=0):
        return tuple(
            self.browser.run(f"""document.querySelector("#pane-{pane} [data-part={part}]").value""")
            for part in ("layer", "head")
        )

    def select(self, part, value, pane=0):
        self.browser.run(
            f"""(() => {{
                const select = document.querySelector("#pane-{pane} [data-part={part}]");
                select.value = {json.dumps(str(value))};
                select.dispatchEvent(new Event("change", {{ bubbles: true }}));
            }})()"""
        )

    def choose(self, token, pane=0):
        self.browser.click(f"#pane-{pane}-{token}")
        expect(self.token(pane) == token, "clicked", token, "shown", self.title(pane))


    def click_map(self, measure, layer, head, shift=False):
        """Clicks a head of a map, and reads what the map says of it."""
        svg = f"""document.querySelector('[data-csv="measure {measure}"] svg')"""
        self.browser.run(f"{svg}.scrollIntoView({{ block: 'center', behavior: 'instant' }})")
        place = self.browser.run(
            f"""(() => {{
                const svg = {svg};
                const [left, width, height] = svg.dataset.grid.split(" ").map(Number);
                const point = new DOMPoint(left + width * ({layer} + 0.5), height * ({head} + 0.5));
                const {{ x, y }} = point.matrixTransform(svg.getScreenCTM());
                return [x, y];
            }})()"""
        )
        self.browser.click_at(*place, shift=shift)
        title = self.browser.run(f"{svg}.querySelector('title').textContent")
        expect(title.startswith(f"layer {layer}, head {head}: "), title)


def close(shown, probability):
    """Whether a share in percent is a probability, to the rounding of the page."""
    return abs(shown / 100 - probability) <= probability**0.5 / 1000 + 0.0006


def every_chosen_query_is_that_of_the_document(page, document):
    for entry in document["queries"][:: max(1, len(document["queries"]) // 4)]:
        page.choose(entry["query"])
        for layer, head in ((0, 0), (document["model"]["layers"] - 1, document["model"]["heads"] - 1)):
            page.select("layer", layer)
            page.select("head", head)
            page.show_all()
            bars = dict(page.bars())
            keys = [pair for pair in entry["likeliest_keys"][layer][head] if pair[1] >= 0.001]
            expect(keys, "a posterior without keys")
            for key, probability in keys:
                expect(close(bars[key], probability), entry["query"], layer, head, key, bars[key], probability)
            expect(all(share >= 0.05 for token, share in bars.items() if token >= 0), bars)
            expect(abs(sum(bars.values()) - 100) < 1.0, bars)


def mean_over_heads(page, document):
    entry = document["queries"][-1]
    page.choose(entry["query"])
    page.select("layer", 1)
    page.select("head", "mean")
    page.show_all()
    heads = entry["likeliest_keys"][1]
    bars = dict(page.bars())
    sums = {}
    for keys in heads:
        for key, probability in keys:
            sums[key] = sums.get(key, 0) + probability / len(heads)
    # The document has a part of each head's keys.
    for key, probability in sums.items():
        expect(probability < 0.005 or bars.get(key, 0) / 100 > probability - 0.003, key, bars, probability)
    kind = page.browser.run("document.querySelector('#pane-0 .kind').textContent")
    expect(kind == f"mean of {len(heads)} heads", kind)
    page.select("layer", "all")
    expect(page.hash().startswith("#head=mean&"), page.hash())
    expect(abs(sum(share for _, share in page.bars()) - 100) < 1.0, page.bars())


def without_the_sink(page, document):
    """A head's posterior without the key that gets the most: the others', divided by what is left."""
    heads = document["model"]["heads"]

    def on_the_sink(place):
        entry, layer, head = place
        sink = document["heads"][layer * heads + head]["heaviest_key"]
        mass = dict(entry["likeliest_keys"][layer][head]).get(sink, 0)
        return mass if mass < 0.9 and entry["query"] in letters(document) else 0

    entry, layer, head = max(
        (
            (entry, layer, head)
            for entry in document["queries"]
            for layer in range(document["model"]["layers"])
            for head in range(heads)
        ),
        key=on_the_sink,
    )
    expect(on_the_sink((entry, layer, head)) > 0.1, "no query looks at a sink")
    page.choose(entry["query"])
    page.select("layer", layer)
    page.select("head", head)
    sink = document["heads"][layer * heads + head]["heaviest_key"]
    page.browser.click("#without-sink")
    page.show_all()
    expect("sink=without" in page.hash(), page.hash())
    bars = dict(page.bars())
    expect(sink not in bars, "the sink is shown", bars)
    keys = dict(entry["likeliest_keys"][layer][head])
    rest = 1 - keys.get(sink, 0)
    expect("renormalised" in page.note() and f"token {sink})" in page.note(), page.note())
    for key, probability in keys.items():
        if key != sink and probability / rest > 0.01:
            expect(abs(bars[key] / 100 - probability / rest) < 0.005 / rest, key, bars[key], probability / rest)
    page.browser.click("#without-sink")
    expect("sink" not in page.hash(), page.hash())


def both_ways_agree(page, document):
    """Who looks at a token is read off where the others look."""
    token = document["queries"][len(document["queries"]) // 2]["query"]
    page.select("layer", 0)
    page.select("head", 1)
    page.choose(token)
    page.browser.click('input[name="way"][value="in"]')
    expect(page.title().startswith("Who looks at"), page.title())
    expect("way=in" in page.hash(), page.hash())
    page.show_all()
    lookers = dict(page.bars())
    expect(lookers, "nobody looks at token", token)
    page.browser.click('input[name="way"][value="out"]')
    for query, share in list(lookers.items())[:3]:
        page.choose(query)
        page.show_all()
        expect(dict(page.bars())[token] == share, query, share, page.bars())


def keys_move_over_tokens_and_heads(page, document):
    heads = document["model"]["heads"]
    page.select("layer", 0)
    page.select("head", 0)
    browser = page.browser
    page.choose(letters(document)[0])
    browser.run('location.hash = location.hash.replace(/token=\\d+/, "token=3")')
    browser.wait("document.querySelector('#pane-0 [aria-selected=true]').id === 'pane-0-3'")
    browser.run('document.querySelector("#pane-0 .text").focus()')
    browser.press("ArrowRight")
    expect(page.token() == 4, page.title())
    browser.press("ArrowLeft")
    browser.press("ArrowLeft")
    expect(page.token() == 2, page.title())
    browser.press("ArrowDown")
    expect(page.head() == ("0", "1"), page.head())
    browser.press("ArrowUp")
    browser.press("ArrowUp")
    last = document["model"]["layers"] - 1
    expect(page.head() == (str(last), str(heads - 1)), page.head())
    style = "getComputedStyle(document.activeElement).outlineStyle"
    expect(browser.run(style) == "solid", "the focus is not seen")
    active = browser.run("document.activeElement.getAttribute('aria-activedescendant')")
    expect(active == "pane-0-2", active)
    selected = browser.run("document.querySelector('#pane-0 [aria-selected=true]').id")
    expect(selected == "pane-0-2", selected)
    said = browser.run("document.getElementById('said').textContent")
    expect("(token 2)" in said, said)
    # On the map: layers lie from left to right.
    browser.run("document.querySelector('svg[tabindex]').focus()")
    browser.press("ArrowLeft")
    expect(page.head() == (str(last - 1), str(heads - 1)), page.head())
    browser.press("ArrowUp")
    expect(page.head() == (str(last - 1), str(heads - 2)), page.head())
    browser.press("Escape")
    expect(page.shown() == page.beginning, page.shown())


def addresses_lead_back(page, document, path):
    browser = page.browser
    first, second = letters(document)[5:7]
    page.select("layer", 1)
    page.select("head", 1)
    page.choose(first)
    address = page.hash()
    page.choose(second)
    browser.run("history.back()")
    browser.wait(f"location.hash === {json.dumps(address)}")
    browser.wait(f"document.querySelector('#pane-0 [aria-selected=true]').id === 'pane-0-{first}'")
    shown = page.shown()
    browser.open(path, address)
    expect(page.shown() == shown, shown, page.shown())
    # Nonsense is passed over.
    browser.open(path, "#head=99.x&token=-1&way=up&beside-head=%00")
    expect(page.bars(), "nothing is shown")
    browser.open(path)


def hovering_lights(page, document):
    browser = page.browser
    page.show_all()
    token = next(token for token, _ in page.bars() if token in letters(document))
    browser.hover(f'#pane-0 .key[data-token="{token}"]')
    lit = "[...document.querySelectorAll('#pane-0 .lit')].map((element) => element.dataset.token)"
    expect(browser.run(lit) == [str(token)] * 2, browser.run(lit))
    browser.hover("h1")
    expect(browser.run(lit) == [], browser.run(lit))
    browser.hover(f"#pane-0-{token}")
    expect(browser.run(lit) == [str(token)] * 2, browser.run(lit))
    expect(re.match(rf"token {token}: [\d.]+%", browser.run(f"document.getElementById('pane-0-{token}').title")), token)


def two_heads_side_by_side(page, document):
    browser = page.browser
    first, second = letters(document)[8:10]
    page.select("layer", 0)
    page.select("head", 0)
    page.choose(first)
    browser.click("#beside")
    expect(page.head(0) == ("0", "0") and page.head(1) == ("0", "1"), page.head(0), page.head(1))
    expect(page.token(1) == first, page.title(1))
    page.choose(second, pane=1)
    expect(page.token(0) == second, "the other text does not follow")
    # A head of a chart goes beside the first with the Shift key.
    page.click_map("map_gap", 1, 0, shift=True)
    expect(page.head(0) == ("0", "0") and page.head(1) == ("1", "0"), page.head(0), page.head(1))
    expect("beside-head=1.0" in page.hash(), page.hash())
    browser.press("Escape")
    expect(browser.run("document.querySelectorAll('#panes > *').length") == 1, "the second stays")
    page.click_map("map_gap", 1, 1)
    expect(page.head(0) == ("1", "1"), page.head(0))


def charts_are_saved(page, document, folder):
    """Every button makes a file: the first two through the browser, the others, of which it would drop
    some for coming too fast, as they are handed to it."""
    browser = page.browser
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=folder)
    count = browser.run("document.querySelectorAll('.save button').length")
    for index in range(2):
        browser.run(f"document.querySelectorAll('.save button')[{index}].click()", gesture=True)
    until = time.monotonic() + 10
    finished = lambda: glob.glob(os.path.join(folder, "*.svg")) + glob.glob(os.path.join(folder, "*.csv"))
    while len(finished()) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    files = {}
    for path in finished():
        with open(path, encoding="utf-8", newline="") as file:
            files[os.path.basename(path)] = file.read()
    expect(len(files) == 2, "saved", files.keys())
    handed = browser.run(
        """(async () => {
            const handed = [];
            const click = HTMLAnchorElement.prototype.click;
            HTMLAnchorElement.prototype.click = function () {
                handed.push(fetch(this.href).then((answer) => answer.text()).then((text) => [this.download, text]));
            };
            document.querySelectorAll(".save button").forEach((button) => button.click());
            HTMLAnchorElement.prototype.click = click;
            return Promise.all(handed);
        })()"""
    )
    expect(dict(handed[:2]) == files, "the browser saves something else", files.keys())
    files = dict(handed)
    expect(len(files) == count, count, "files were to be saved, not", len(files))
    for name, text in files.items():
        if name.endswith(".svg"):
            svg = xml.etree.ElementTree.fromstring(text)
            expect(svg.get("width") and len(svg), name)
            expect("var(" not in text and "class=" not in text, name, "needs a style sheet")
        else:
            rows = list(csv.reader(io.StringIO(text)))
            expect(len(rows) > 1 and len({len(row) for row in rows}) == 1, name)
    for name, text in files.items():
        measure = re.search(r"measure-(\w+)\.csv$", name)
        if measure:
            for row, head in zip(csv.DictReader(io.StringIO(text)), document["heads"], strict=True):
                expect((int(row["layer"]), int(row["head"])) == (head["layer"], head["head"]), name, row)
                value = head[measure.group(1)]
                expect(row[measure.group(1)] == "" if value is None else float(row[measure.group(1)]) == value, name, row)
                expect(row["label"] == head["label"], name, row)
    keys = next(text for name, text in files.items() if name.endswith("-keys.csv"))
    shares = {int(row["token"]): float(row["probability"]) for row in csv.DictReader(io.StringIO(keys))}
    bars = [(token, share) for token, share in page.bars() if token >= 0]
    expect(all(abs(100 * shares[token] - share) < 0.06 for token, share in bars), bars, shares)


def number(text):
    """The number that a page writes, with commas or a power of ten; None for what was not measured."""
    return None if text == "not measured" else float(text.replace(",", "").replace("−", "-").replace("∞", "inf"))


def written_as(text, value):
    """Whether a text is how the page writes a number: to the last digit of two or three."""
    shown = number(text)
    if shown is None or value is None:
        return shown is None and value is None
    steps = ((100, 1), (10, 0.1), (0.1, 0.01), (0.01, 0.001), (0.001, 0.0001))
    step = next((step for least, step in steps if abs(value) >= least), 0.1 * abs(value))
    return abs(shown - value) <= 0.5001 * max(step, 0.1 * abs(value) if "e" in text else 0)


def card(page, pane=0):
    """The numbers beside the text, by their titles; a list of each, where several texts were read."""
    rows = page.browser.run(
        f"""[...document.querySelectorAll("#pane-{pane} [data-part=numbers] tr")]
            .map((row) => [...row.cells].map((cell) => cell.textContent))"""
    )
    return {title: values for title, *values in rows}


def labels_have_margins(page, document):
    """In the table of kinds, on the map, beside the text and in the list of every head."""
    browser = page.browser
    model, heads, texts = document["model"], document["heads"], document.get("texts", [])
    name = lambda head: f"{head['layer']}.{head['head']}"
    rows = browser.run(
        """[...document.querySelectorAll(".legend tbody tr, .legend:not(:has(tbody)) tr")].map((row) => ({
            label: row.querySelector("th").textContent,
            counts: [...row.querySelectorAll(".count")].map((cell) => Number(cell.textContent)),
            clearest: [...row.querySelectorAll(".clearest > span")].map((one) => one.textContent),
            heads: [...row.querySelectorAll("[data-head]")].map((button) => button.dataset.head),
        }))"""
    )
    labels = [label for label in document["labels"] if label["heads"] > 0]
    expect([row["label"] for row in rows] == [label["name"] for label in labels], rows)
    for row, label in zip(rows, labels):
        counts = [label["heads"]] + ([label["stable_heads"]] if texts else [])
        expect(row["counts"] == counts, row, counts)
        own = sorted((head for head in heads if head["label"] == row["label"]), key=lambda head: -(head["margin"] or 0))
        expect(row["heads"] == [name(head) for head in own[:4]], row)
        expect(row["clearest"] == [f"{name(head)} {head['margin'] or 0:.2f}" for head in own[:4]], row)
    close = {name(head) for head in heads if head["margin"] is not None and head["margin"] < 0.05}
    said = browser.run("document.querySelector('.kinds + .note').textContent")
    expect(said.startswith(f"{len(heads)} heads, {len(close)} of them within 0.05"), said)
    widths = browser.run("[...document.querySelectorAll('[data-csv=labels] rect.label')].map((r) => r.width.baseVal.value)")
    expect({name(head) for head, width in zip(heads, widths, strict=True) if width < max(widths) - 0.2} == close, widths, close)

    titles = {measure["name"]: measure["title"] for measure in document["measures"]}
    for head in (heads[0], heads[-1], min(heads, key=lambda head: head["margin"] or 9)):
        page.select("layer", head["layer"])
        page.select("head", head["head"])
        alone = head["by_text"][0] if texts else head
        kind = browser.run("document.querySelector('#pane-0 .kind').textContent")
        expect(kind == f"{alone['label']}margin {alone['margin']:.2f}", kind, alone)
        margin = browser.run("document.querySelector('#pane-0 [data-part=margin]').textContent")
        if texts:
            expect(f"over {len(texts)} texts it is {head['label']}, and on {head['agreeing_texts']} of them" in margin, margin)
            margins = [text["margin"] for text in head["by_text"]]
            expect(f"{sum(margins) / len(margins):.2f} ± " in margin, margin, margins)
        else:
            expect(f"would be {head['margin_label']} with a change of {head['margin']:.2f} in" in margin, margin)
            expect(f"“{titles[head['margin_measure']]}”" in margin, margin)
        numbers = card(page)
        for measure, title in titles.items():
            shown = numbers[title]
            expect(len(shown) == (2 if texts else 1), shown)
            expect(written_as(shown[0], alone[measure]), title, shown, alone[measure])
            if texts:
                mean, _, deviation = shown[1].partition(" ± ")
                expect(written_as(mean, head[measure]), title, shown, head[measure])
                expect((deviation == "") == (head["deviations"][measure] is None), shown)
                expect(not deviation or written_as(deviation, head["deviations"][measure]), title, shown)

    browser.click("details.all summary")
    browser.wait("document.querySelector('details.all tbody tr')")
    listed = "[...document.querySelectorAll('details.all tbody tr')].map((row) => [...row.cells].map((c) => c.textContent))"
    rows = browser.run(listed)
    for row, head in zip(rows, heads, strict=True):
        expect(row[:2] == [name(head), f" {head['label']}"], row)
        margin = "none" if head["margin"] is None else f"{head['margin']:.2f}"
        expect(row[2:4] == [margin, head["margin_label"] or ""], row, head["margin"])
        expect(not texts or row[5] == f"{head['agreeing_texts']} of {len(texts)}", row)
    browser.click('details.all [title="sort by margin"]')
    by_margin = [head["margin"] or 0 for head in sorted(heads, key=lambda head: -(head["margin"] or 0))]
    expect([row[2] for row in browser.run(listed)] == [f"{margin:.2f}" for margin in by_margin], "not sorted")
    browser.click("details.all tbody button")
    first = browser.run(listed)[0][0]
    expect(".".join(page.head()) == first, page.head(), first)
    browser.click("details.all summary")


def nothing_reads_like_a_fault(page):
    """What was not measured says so, and no zero has a sign."""
    text = page.browser.run("document.body.innerText + [...document.querySelectorAll('main td')].map((c) => c.textContent).join(' ')")
    for word in ("not finite", "NaN", "null", "undefined", "Infinity"):
        expect(not re.search(rf"\b{word}\b", text), word, "is on the page")
    zero = re.search(r"[-−]0(\.0+)?(?![\d.])", text)
    expect(not zero, "a zero with a sign:", text[max(0, zero.start() - 60) : zero.end() + 20] if zero else "")


def several_texts(page, program, folder):
    """Means with their spread; a text that repeats nothing leaves measures unknown."""
    texts = []
    for index, words in enumerate(("She said so, and he said so. " * 9, "All that is gold does not glitter.\n" * 6, "abcdefg hij")):
        texts.append(os.path.join(folder, f"text-{index}.txt"))
        with open(texts[-1], "w", encoding="utf-8") as file:
            file.write(words)
    path, [document] = audit(program, os.path.join(folder, "several"), DEFAULT_MODEL, *texts, "--effects")
    page.browser.open(path)
    labels_have_margins(page, document)
    nothing_reads_like_a_fault(page)
    heads = document["heads"]
    expect(any(head["next_token_mass"] is None for head in heads), "everything was measured")
    shown = card(page)["Mass on the token after"]
    expect(shown == ["not measured"] * 2, shown)
    table = page.browser.run("document.querySelector('main section:last-of-type table').textContent")
    expect("0.000" in table, "no effect is next to nothing", table)
    every_theme_and_width(page, path, "several", None)


def every_theme_and_width(page, path, name, pictures):
    browser = page.browser
    for theme in THEMES:
        for width in WIDTHS:
            browser.look(width, 800, theme)
            browser.open(path)
            wide = browser.run("[document.documentElement.scrollWidth, innerWidth]")
            expect(wide[0] <= width and wide[1] == width, name, theme, width, "scrolls sideways:", wide)
            small = browser.run(
                f"""[...document.querySelectorAll("main svg text")].filter((text) => {{
                    const drawn = text.getScreenCTM().a * parseFloat(getComputedStyle(text).fontSize);
                    return drawn < {LEGIBLE};
                }}).map((text) => text.textContent)"""
            )
            expect(not small, name, width, "too small to read:", small)
            stretched = browser.run(
                """[...document.querySelectorAll("main svg")].filter((svg) => {
                    const [drawn, box] = [svg.getBoundingClientRect(), svg.viewBox.baseVal];
                    return Math.abs(drawn.width / drawn.height / (box.width / box.height) - 1) > 0.01;
                }).length"""
            )
            expect(stretched == 0, name, width, "charts are stretched")
            hidden = browser.run(
                """[...document.querySelectorAll("main svg circle")].filter((dot) => {
                    const frame = dot.closest("figure, .scroll");
                    return frame && dot.getBoundingClientRect().right > frame.getBoundingClientRect().right;
                }).length"""
            )
            expect(hidden == 0, name, width, "dots beyond the edge:", hidden)
            background, ink = browser.run(
                """["backgroundColor", "color"].map((name) => getComputedStyle(document.body)[name])"""
            )
            light = [sum(map(int, re.findall(r"\d+", colour)[:3])) / 3 for colour in (background, ink)]
            expect((light[0] > light[1]) == (theme == "light") and abs(light[0] - light[1]) > 120, light)
            if pictures:
                os.makedirs(pictures, exist_ok=True)
                browser.picture(os.path.join(pictures, f"{name}-{theme}-{width}.png"))
    browser.look(1200, 800, "light")


def hostile_text_is_text(page, program, folder):
    text = os.path.join(folder, "hostile.txt")
    with open(text, "w", encoding="utf-8", newline="") as file:
        file.write(HOSTILE)
    path, [document] = audit(program, os.path.join(folder, "hostile"), DEFAULT_MODEL, text)
    page.browser.open(path)
    shown = page.browser.run("document.querySelector('#pane-0 .text').textContent")
    expect(shown.startswith(HOSTILE[:60]), repr(shown))
    expect(page.browser.run("document.title") != "taken", "the text runs as a script")
    page.choose(document["text"]["token_count"] - 2)


def two_models_side_by_side(page, program, folder, second):
    """Both read one text, and a token chosen in one is chosen in the other."""
    text = os.path.join(folder, "compared.txt")
    with open(text, "w", encoding="utf-8", newline="") as file:
        file.write("She said so, and he said so, and they all said so in the end.\n" * 3)
    path, documents = audit(program, os.path.join(folder, "two"), DEFAULT_MODEL, text, "--compare", second)
    page.browser.open(path)
    expect(page.browser.run("document.querySelectorAll('#panes > *').length") == 2, "one pane")
    place = 100
    for chosen, other in ((0, 1), (1, 0)):
        tokens = [document["text"]["tokens"] for document in documents]
        covers = lambda token: token["start"] <= place < token["end"]
        here, there = (next(i for i, token in enumerate(tokens[pane]) if covers(token)) for pane in (chosen, other))
        page.choose(here, pane=chosen)
        at_start = tokens[chosen][here]["start"]
        found = tokens[other][page.token(other)]
        expect(found["start"] <= at_start + 1 and at_start < found["end"], chosen, here, there, found)
        place += 20
    for pane, document in enumerate(documents):
        entry = document["queries"][-1]
        page.select("layer", 0, pane)
        page.select("head", 0, pane)
        page.choose(entry["query"], pane)
        key, probability = entry["likeliest_keys"][0][0][0]
        expect(close(dict(page.bars(pane))[key], probability), pane, key, page.bars(pane))
    every_theme_and_width(page, path, "two", None)


def no_errors(browser):
    told = [
        event["params"]
        for event in browser.events
        if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")
    ]
    expect(not told, "the page has errors:", told)
    requested = {
        event["params"]["request"]["url"].split(":")[0]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    }
    expect(requested <= {"file", "about", "blob", "data"}, "the page asks for", requested)


def main(program, pictures=None):
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Browser() as browser:
        page = Page(browser)

        def check(name, run, *arguments):
            run(*arguments)
            print(f"{time.monotonic() - start:6.1f} s  {name}", flush=True)

        browser.look(1200, 800, "light")
        path, [document] = audit(program, os.path.join(folder, "one"))
        browser.open(path)
        page.beginning = page.shown()
        check("shares are those of audit.json", every_chosen_query_is_that_of_the_document, page, document)
        check("mean over heads", mean_over_heads, page, document)
        check("without the sink", without_the_sink, page, document)
        check("both ways agree", both_ways_agree, page, document)
        check("labels and margins", labels_have_margins, page, document)
        check("nothing reads like a fault", nothing_reads_like_a_fault, page)
        check("keys", keys_move_over_tokens_and_heads, page, document)
        check("addresses", addresses_lead_back, page, document, path)
        check("hovering", hovering_lights, page, document)
        check("two heads side by side", two_heads_side_by_side, page, document)
        downloads = os.path.join(folder, "downloads")
        os.mkdir(downloads)
        check("charts are saved", charts_are_saved, page, document, downloads)
        check("themes and widths", every_theme_and_width, page, path, "default", pictures)
        check("hostile text", hostile_text_is_text, page, program, folder)
        check("several texts", several_texts, page, program, folder)
        check("two models", two_models_side_by_side, page, program, folder, DEFAULT_MODEL)
        minilm = os.path.join(ROOT, "models", "minilm")
        if os.path.exists(minilm):
            check("models of other tokens", two_models_side_by_side, page, program, folder, minilm)
        else:
            print("SKIPPED: models of other tokens: models/minilm is missing; run `cargo xtask fetch minilm`")
        no_errors(browser)


if __name__ == "__main__":
    main(*sys.argv[1:])
