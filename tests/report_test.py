"""usage: report_test.py PAGE   a page of train --report: well formed, a curve, samples and settings, nothing from outside."""
import re, sys
from html.parser import HTMLParser

page = open(sys.argv[1], encoding="utf-8").read()
void, stack, seen, texts = {"meta", "br"}, [], {}, []


class Reader(HTMLParser):
    def handle_starttag(self, tag, attrs):
        seen.setdefault(tag, []).append(dict(attrs))
        if tag not in void:
            stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        seen.setdefault(tag, []).append(dict(attrs))

    def handle_endtag(self, tag):
        assert stack and stack[-1] == tag, f"</{tag}> closes {stack[-1:]}"
        stack.pop()

    def handle_data(self, data):
        texts.append(data)


reader = Reader(convert_charrefs=True)
reader.feed(page)
reader.close()
assert page.startswith("<!DOCTYPE html>") and not stack, stack
assert not set(seen) & {"script", "link", "img", "iframe", "base", "object", "embed", "form"}, set(seen)
for tag, all_of_it in seen.items():
    for attrs in all_of_it:
        assert not {"src", "srcset", "data", "style", "onload", "onclick"} & set(attrs), (tag, attrs)
        assert attrs.get("href", "#").startswith("#"), attrs
assert not re.search(r"url\(|@import|https?:", page), "the page points outside"
ids = {d["id"] for d in seen["details"]}
assert {a["href"][1:] for a in seen["a"]} == ids, "points of the curve and samples"
lines = {p["class"]: [tuple(map(float, q.split(","))) for q in p["points"].split()] for p in seen["polyline"]}
assert set(lines) == {"train", "valid"} and len(lines["train"]) >= 10 and len(lines["valid"]) == len(ids) >= 2, lines
for line in lines.values():
    assert all(0 <= x <= 400 and 0 <= y <= 240 for x, y in line) and line == sorted(line, key=lambda q: q[0]), line
assert len(seen["circle"]) == len(ids) and len(seen["summary"]) == len(ids)
text = "".join(texts)
assert "& the <" in text, "the samples show what the prompts have"
assert not re.search(r"&(?!#\d+;|amp;|lt;|gt;|quot;)", page.split("</style>")[1]), "an & that stands alone"
assert "--lr" in text and "pairs" in text
