import ast
import json
import random

import pytest

from crossrec.data.sources.literals import read_record

PIECES = [
    "soap", "it's", '5" disc', "f\u00fcrs", "back\\slash", "new\nline", "\x07", "\U0001f642", "None", "True", ": ",
    "', '", '"', "{", "",
]  # fmt: skip


def test_literals_are_read_as_python_reads_them() -> None:
    rng = random.Random(0)
    for _ in range(2000):
        words = ["".join(rng.choices(PIECES, k=rng.randrange(4))) for _ in range(6)]
        record = {
            "asin": words[0],
            words[1]: [[words[2], words[3]], [], [words[4]]],
            "price": rng.choice([9.99, 1e-05, 3, None, True]),
            "related": {"also_bought": [words[5]]},
        }
        assert read_record(repr(record)) == record == ast.literal_eval(repr(record))
        assert read_record(json.dumps(record)) == record


@pytest.mark.parametrize(
    ("text", "record"),
    [
        (" {'a': ('b', 1)} ", {"a": ("b", 1)}),
        ("{'a': u'b', 'c': 'd' 'e'}", {"a": "b", "c": "de"}),
        ("{'a': 'tab\there'}", {"a": "tab\there"}),
        ("{'a': '\\\\x41 \\x41'}", {"a": "\\x41 A"}),
        ("{'a': 'None'}", {"a": "None"}),
        ("{'a': None}", {"a": None}),
        ("['a']", None),
        ("{'a': b}", None),
        ("{'a': 'b}", None),
        ("__import__('os')", None),
    ],
)
def test_what_json_has_not_is_left_to_python(text: str, record: object) -> None:
    assert read_record(text) == record
