#!/usr/bin/env python3
"""Write golden/evaluate.tsv, hypotheses with one or two references, and golden/evaluate.txt, what evaluate --score has to print
of them: BLEU by sacrebleu, ROUGE-L by rouge-score, exact match and F1 by the SQuAD 2.0 metrics of transformers 4.

    pip install sacrebleu==2.6.0 rouge-score==0.1.2
    pip download --no-deps transformers==4.57.1 && unzip -o transformers-*.whl 'transformers/data/metrics/squad_metrics.py'
    SQUAD=transformers/data/metrics/squad_metrics.py python3 tests/make_evaluate_goldens.py

With a FILE it prints what is expected of that file, and writes nothing.
"""
import os
import sys
import types

import sacrebleu
from rouge_score import rouge_scorer


def squad_metrics(path):
    """The functions of that one file, whose imports of the rest of transformers they do not need."""
    text = "".join(line for line in open(path, encoding="utf-8") if not line.startswith("from ..."))
    module = types.ModuleType("squad_metrics")
    exec(text.replace("logger = logging.get_logger(__name__)", ""), module.__dict__)
    return module


squad = squad_metrics(os.environ["SQUAD"])
rouge = rouge_scorer.RougeScorer(["rougeL"])
sentence, corpus = sacrebleu.BLEU(effective_order=True), sacrebleu.BLEU()
MOST = 2            # references

CASES = [
    "The cat sat on the mat.\tThe cat sat on a mat.",
    "\tan empty hypothesis",
    "an empty reference\t",
    "word\tword",
    "word\tanother",
    "the\tA an the!",
    "no match at all of four words, but one word here\tsomething else with one thing",
    "two words here match two words there\tmatch two words of many, here and there",
    "It's 3.14, not 3,14; 1-2 or a-b... (see [4], {5}) 100% $5.00 e.g. U.S.\tIt is 3.14 -- not 3,14! 1-2 or a-b; 100 % $5 U.S.",
    "&quot;Hi&quot; &amp;lt; &lt;b&gt; <skipped> x\t\"Hi\" < <b> x",
    "Der \u00dcbergr\u00f6\u00dfentr\u00e4ger \u00dcBER \u00c4\t\u00fcber der \u00fcbergr\u00f6\u00dfentr\u00e4ger \u00e4",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0401\u0436\u0438\u043a\t\u043f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440 \u0451\u0436\u0438\u043a",
    "\u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1 \u03ba\u03cc\u03c3\u03bc\u03b5\t\u03ba\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1, \u03ba\u03cc\u03c3\u03bc\u03b5.",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002\t\u4f60\u597d \u4e16\u754c",
    "smile \U0001f600 again\tsmile \U0001f600, again",
    "an\u00a0unbroken\u2003space\u3000here\tunbroken space here",
    "don\u2019t\u2014the end\u2026 a\u2013b \u00aba\u00bb\tdon't the end a b",
    "\u0130stanbul 300\u212a \u212bngstr\u00f6m\ti\u0307stanbul 300k \u00e5ngstr\u00f6m",
    "a-b a - b a -b 3-4 3 -4\ta-b a - b 3-4",
    ".,.,a.,b..1.,2,.\t., a b 1 2 .",
    "one two three four five\tone two three four five six seven\tone two three",
    "one two three\tone two\tone two three four",
    "the cat the cat on the mat\tthe cat is on the mat\tthere is a cat on the mat",
    "a a a a\ta a\tb a a a",
    "Trailing blanks and -\\n a line's end\\nhere -\\n\ttrailing blanks and - a line's end here",
    "under_score a_an the_\tunderscore aan the",
    "Artificial Intelligence is the branch of engineering and science devoted to constructing machines that think.\t"
    "AI is the field of science which concerns itself with building hardware and software that replicates the functions of the human "
    "mind.\tArtificial intelligence is a branch of science about machines that think.",
]


def unescape(cell):
    return cell.replace("\\n", "\n")


def expected(rows):
    out, total = [], [0, 0, 0]
    hyps, refs = [], [[] for _ in range(MOST)]
    for i, row in enumerate(rows):
        cells = [unescape(c) for c in row.split("\t")][:MOST + 1]
        hyp, ref = cells[0], cells[1:]
        exact = max(squad.compute_exact(r, hyp) for r in ref)
        f1 = max(squad.compute_f1(r, hyp) for r in ref)
        longest = rouge.score_multi(ref, hyp)["rougeL"].fmeasure
        bleu = sentence.sentence_score(hyp, ref).score
        out.append(f"{i + 1}\t{100 * exact}\t{100 * f1:.4f}\t{bleu:.4f}\t{100 * longest:.4f}")
        for k, v in enumerate((exact, f1, longest)):
            total[k] += v
        hyps.append(hyp)
        for k in range(MOST):
            refs[k].append(ref[k] if k < len(ref) else None)
    b, n = corpus.corpus_score(hyps, refs), len(rows)
    out.append(f"rows         {n:8d}")
    out.append(f"exact match  {100 * total[0] / n:8.4f} %")
    out.append(f"F1           {100 * total[1] / n:8.4f} %")
    out.append(f"BLEU         {b.score:8.4f}    " + "/".join(f"{p:.1f}" for p in b.precisions) +
               f", brevity penalty {b.bp:.4f}, {b.sys_len} words for {b.ref_len}")
    out.append(f"ROUGE-L      {100 * total[2] / n:8.4f} %")
    return "\n".join(out) + "\n"


if len(sys.argv) > 1:
    sys.stdout.write(expected(open(sys.argv[1], encoding="utf-8", newline="").read().rstrip("\n").split("\n")))
else:
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")
    with open(os.path.join(folder, "evaluate.tsv"), "w", encoding="utf-8", newline="") as f:
        f.write("\n".join(CASES) + "\n")
    with open(os.path.join(folder, "evaluate.txt"), "w", encoding="utf-8", newline="") as f:
        f.write(expected(CASES))
