import pytest

from crossrec.encoders.item_texts import item_texts
from crossrec.encoders.template import Template
from crossrec.errors import CrossrecError

TITLES = ["Comb", "Soap", " Pan ", None, None, "梳子"]
BRANDS = ["Acme", None, "Acme", "Acme", None, None]
CATEGORIES = ["Hair", "Bath", None, None, "", "头发, 护理"]
BODIES = ["long comb", None, None, "text alone", None, "q"]


@pytest.fixture
def corpus(make_corpus):
    return make_corpus(6, title=TITLES, brand=BRANDS, category=CATEGORIES, text=BODIES)


def test_fields_are_joined_and_fall_back(corpus, make_corpus):
    assert item_texts(corpus).to_list() == ["Comb", "Soap", "Pan", "text alone", None, "梳子"]
    assert item_texts(corpus, ["text"]).to_list() == ["long comb", "Soap", "Pan", "text alone", None, "q"]
    assert item_texts(corpus, ["title", "brand"])[:4].to_list() == ["Comb Acme", "Soap", "Pan Acme", "Acme"]
    assert item_texts(corpus, ["brand", "title"])[0] == "Acme Comb"
    assert item_texts(corpus, ["description"]).to_list() == item_texts(corpus).to_list()
    assert item_texts(make_corpus(6, title=TITLES), ["text"])[0] == "Comb"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        # what lacks a needed field is read by `fields`
        ("{title} by {brand}, {category}", ["Comb by Acme, Hair", "Soap", "Pan", "text alone", None, "梳子"]),
        (
            "{title}[ by {brand}][, {category}]",
            ["Comb by Acme, Hair", "Soap, Bath", "Pan by Acme", "text alone", None, "梳子, 头发, 护理"],
        ),
        (
            "item: [{title}][ {brand}/{category}]",
            ["item: Comb Acme/Hair", "item: Soap", "item: Pan", "text alone", None, "item: 梳子"],
        ),
        (
            "[{brand} ]{{{category}}} [[x]]",
            ["Acme {Hair} [x]", "{Bath} [x]", "Pan", "text alone", None, "{头发, 护理} [x]"],
        ),
        ("[{description}. ]{title}", ["Comb", "Soap", "Pan", "text alone", None, "梳子"]),
    ],
)
def test_templates_leave_out_what_is_missing(corpus, template, expected):
    found = item_texts(corpus, template=template).to_list()
    assert found == expected
    assert not any("None" in text for text in found if text)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{titel}", "no field {titel}; fields are title, brand, category, description, text"),
        ("{}", "no field {}"),
        ("a title", "names no field"),
        ("{title}[ new]", "never be left out"),
        ("{title}[ by {brand}", "brackets go in pairs"),
        ("{title} by {brand}]", "brackets go in pairs"),
        ("{title}[ by [{brand}]]", "brackets go in pairs"),
        ("{title", "braces go in pairs"),
        ("title}", "braces go in pairs"),
        ("{ti[tle}]", "braces go in pairs"),
    ],
)
def test_wrong_templates_are_refused(template, message):
    with pytest.raises(CrossrecError) as caught:
        Template(template)
    assert message in str(caught.value) and "item_encoder.template=" in str(caught.value)


def test_a_template_that_fits_no_item_is_refused(corpus):
    with pytest.raises(CrossrecError, match=r"fits no item: .* have title, brand, category, text; put \[brackets\]"):
        item_texts(corpus, template="{title}: {description}")


def test_mistakes_are_told(corpus, make_corpus):
    for fields in (["summary"], []):
        with pytest.raises(CrossrecError, match="must name some of title, brand, category, description, text"):
            item_texts(corpus, fields)
    for bare in (make_corpus(6), make_corpus(2, title=[None, " "])):
        with pytest.raises(CrossrecError, match="item_encoder=id"):
            item_texts(bare)
