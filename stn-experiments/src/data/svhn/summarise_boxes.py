#!/usr/bin/env python3
"""Summarises the digit boxes of real house numbers (SVHN, full_numbers) as the tables of layout.rs.

usage: summarise_boxes.py BOXES.jsonl.gz...     one object a line: {"digits": [[class, left, top, width, height], ...]}
"""

import gzip
import json
import sys

LEVELS = [0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.98]


def quantiles(values):
    values = sorted(values)
    return [round(values[int(level * (len(values) - 1))], 3) for level in LEVELS]


numbers = [json.loads(line)["digits"] for path in sys.argv[1:] for line in gzip.open(path, "rt")]
numbers = [digits for digits in numbers if 1 <= len(digits) <= 5]
counts = [sum(len(digits) == n for digits in numbers) for n in range(1, 6)]
heights, ones, others, steps, slopes = [], [], [], [], []
for digits in numbers:
    height = sum(d[4] for d in digits) / len(digits)
    heights.append(height)
    for digit in digits:
        (ones if digit[0] == 1 else others).append(digit[3] / digit[4])
    for a, b in zip(digits, digits[1:]):
        steps.append((b[1] + b[3] / 2 - a[1] - a[3] / 2) / height)
    if len(digits) > 1:
        first, last = digits[0], digits[-1]
        drop = (last[2] + last[4] / 2 - first[2] - first[4] / 2) / height
        slopes.append(drop / (len(digits) - 1))
print("COUNTS", counts)
for name, values in [("HEIGHTS", heights), ("ASPECT_OF_ONE", ones), ("ASPECTS", others), ("STEPS", steps), ("SLOPES", slopes)]:
    print(name, quantiles(values))
