"""The page's store, on a blank page: what is asked when, and what becomes of the answers."""

from __future__ import annotations

import pytest
from browser import NEEDS_CHROMIUM

from drorae.viewers.static_files import STORE, read_static

pytestmark = NEEDS_CHROMIUM

SCRIPTS = ["lib.js", *(f"store/{name}.js" for name in STORE.split())]
START = """
window.asked = [];
store.configure({ layers: 12, model: { name: "m", hash: "h" }, examples: [{ name: "cat", title: "cat" }] });
for (const kind of ["routes", "tiles", "frames"]) store.open(kind, (wish) => asked.push([kind, wish.key]));
for (const key of ["a", "b"]) store.add({ key, name: `${key}.png`, file: { path: key } });
const answer = (kind, key, value) => store.receive(kind, { key, value });
const refuse = (kind, key, error) => store.receive(kind, { key, error });
"""


@pytest.fixture
def evaluate(browser):
    """Scripts on a new page with the store of two photos; the last value comes back."""
    page = browser.new_page()
    page.goto("about:blank")
    page.add_script_tag(content="".join(map(read_static, SCRIPTS)) + START)
    yield page.evaluate
    page.close()


def test_a_photo_is_asked_for_once_and_then_known(evaluate):
    evaluate("store.show('a'); store.show('a')")
    assert evaluate("asked") == [["routes", "a"]]
    assert evaluate("store.waits('routes')")
    evaluate("answer('routes', 'a', { x: 1 })")
    evaluate("store.show('a')")
    assert evaluate("[asked.length, store.waits('routes'), store.data('routes').x]") == [1, False, 1]


def test_an_overtaken_photo_is_asked_for_again_when_it_is_looked_at(evaluate):
    evaluate("store.show('a'); store.show('b')")
    assert evaluate("[store.waits('routes', 'a'), store.waits('routes', 'b')]") == [False, True]
    evaluate("store.show('a')")
    assert evaluate("asked") == [["routes", "a"], ["routes", "b"], ["routes", "a"]]


def test_an_answer_that_comes_late_is_kept_for_its_own_photo(evaluate):
    evaluate("store.show('a'); store.show('b'); answer('routes', 'a', { x: 1 })")
    assert evaluate("[store.state.photo, store.data('routes'), store.data('routes', 'a').x]") == ["b", None, 1]


def test_what_comes_in_parts_is_merged_and_waited_for(evaluate):
    evaluate("store.show('a'); answer('routes', 'a', {}); store.need('frames')")
    evaluate("answer('frames', 'a', { done: 1, total: 3, sprite: 's' }); answer('frames', 'a', { done: 2, total: 3 })")
    assert evaluate("[store.data('frames').sprite, store.data('frames').done, store.waits('frames')]") == ["s", 2, True]
    evaluate("answer('frames', 'a', { done: 3, total: 3 })")
    assert evaluate("store.waits('frames')") is False


def test_a_new_photo_ends_what_was_asked_of_others(evaluate):
    evaluate("store.show('a'); answer('routes', 'a', {}); store.need('frames'); store.show('b')")
    assert evaluate("store.waits('frames', 'a')") is False
    evaluate("refuse('frames', 'a', 'cancelled')")  # of a question that was ended
    assert evaluate("store.problem('frames', 'a')") is None


def test_a_photo_that_cannot_be_read_leaves_what_was_shown(evaluate):
    evaluate("store.show('a'); answer('routes', 'a', {}); store.show('b'); refuse('routes', 'b', 'No picture.')")
    assert evaluate("[store.state.photo, store.failure, store.photos.has('b')]") == ["a", "No picture.", False]
    evaluate("store.show('cat'); refuse('routes', 'cat', 'No model.')")
    assert evaluate("[store.state.photo, store.failure, store.photos.has('cat')]") == ["a", "No model.", True]


def test_another_model_forgets_everything_and_asks_again(evaluate):
    evaluate("store.show('a'); answer('routes', 'a', {}); store.set({ off: [1], beta: 0.5 })")
    evaluate("store.changeModel({ model: { name: 'n', hash: 'i' } })")
    assert evaluate("[store.data('routes'), asked.length, store.state.off, store.state.beta]") == [None, 2, [], None]


def test_an_address_says_what_is_seen_and_is_read_back(evaluate):
    evaluate("store.show('cat'); store.set({ view: 'weights', token: 7, pinned: true, layer: 3, off: [0, 1, 2, 8] })")
    evaluate("store.set({ beta: 0.4, region: [5, 6, 7] })")
    text = evaluate("store.address().toString()")
    assert text == "tab=weights&example=cat&token=7&layer=4&beta=0.4&off=1-3.9&region=5-7"
    read = evaluate(f"store.read('?{text}')")
    wanted = {"view": "weights", "photo": "cat", "token": 7, "pinned": True, "layer": 3, "beta": 0.4}
    assert {name: read[name] for name in wanted} == wanted
    assert (read["off"], read["region"]) == ([0, 1, 2, 8], [5, 6, 7])


@pytest.mark.parametrize(
    ("older", "view"),
    [
        ("compare", "picture"),
        ("routing", "weights"),
        ("intervene", "layers"),
        ("batch", "photos"),
        ("nonsense", "picture"),
    ],
)
def test_older_names_of_views_still_open_them(evaluate, older, view):
    assert evaluate(f"store.read('?tab={older}&example=cat').view") == view


def test_numbers_that_make_no_sense_are_left_out(evaluate):
    read = evaluate("store.read('?beta=7&off=99.x&layer=40&token=-3&crop=2,0')")
    assert (read["beta"], read["off"], read["token"], read["centre"], read["whole"]) == (None, [], None, None, False)
    assert "layer" not in read


# ---- which part of a photo ----------------------------------------------------------------------------------------


@pytest.fixture
def parts(evaluate):
    """The same, of a model that takes whole photos, looking at one; ``asked`` has all of each wish."""
    evaluate("store.configure({ whole: true }); for (const kind of ['routes', 'tiles']) asked.length = 0")
    evaluate("for (const kind of ['routes', 'tiles']) store.open(kind, (wish) => asked.push(wish))")
    evaluate("store.show('a'); answer('routes', 'a', { x: 1 }); asked.length = 0")
    return evaluate


def test_another_part_of_a_photo_is_asked_for_and_stays_its_own(parts):
    parts("store.set({ token: 7, pinned: true, area: [7, 8], against: [1], region: [2] })")
    parts("store.crop('a', { whole: true })")
    assert parts("[store.data('routes'), asked[0].kind, asked[0].key, asked[0].whole]") == [None, "routes", "a", True]
    wanted = [None, False, [], None, []]
    assert parts("['token', 'pinned', 'area', 'against', 'region'].map((name) => store.state[name])") == wanted
    assert parts("store.address().get('crop')") == "whole"
    parts("answer('routes', 'a', {}); store.show('b'); answer('routes', 'b', {}); store.show('a')")
    assert parts("[asked.length, store.address().get('crop')]") == [2, "whole"]  # b alone was asked for
    parts("store.crop('a', { centre: [0.25, 0.5], whole: false })")
    assert parts("[asked[2].whole, asked[2].centre]") == [False, [0.25, 0.5]]
    assert parts("store.address().get('crop')") == "0.250,0.500"
    parts("store.crop('a', { whole: true }); store.crop('a', { whole: false })")  # the square is where it was
    assert parts("store.address().get('crop')") == "0.250,0.500"


def test_answers_about_another_part_are_not_taken_for_this_one(parts):
    parts("store.need('tiles')")
    parts("window.late = asked[0].version; store.crop('a', { whole: true }); window.now = asked[1].version")
    parts("store.receive('routes', { key: 'a', version: late, value: { x: 'square' } })")
    parts("store.receive('tiles', { key: 'a', version: late, value: { sprite: 'square' } })")
    parts("store.receive('routes', { key: 'a', version: late, error: 'gone' })")
    assert parts("[store.data('routes'), store.data('tiles'), store.failure]") == [None, None, None]
    assert parts("store.waits('routes')")
    parts("store.receive('routes', { key: 'a', version: now, value: { x: 'whole' } })")
    assert parts("[store.data('routes').x, store.waits('routes')]") == ["whole", False]


def test_what_is_looked_at_has_a_name_that_changes_with_part_and_model(parts):
    names = [parts("store.mark()")]
    parts("store.crop('a', { whole: true })")
    names.append(parts("store.mark()"))
    parts("store.changeModel({ model: { name: 'n', hash: 'i' }, whole: true })")
    names += [parts("store.mark()"), parts("store.mark('b')")]
    assert len(set(names)) == 4


def test_a_link_shows_the_part_it_names(parts):
    parts("store.restore('?photo=a&crop=whole')")
    assert parts("[asked.length, asked[0].whole]") == [1, True]
    parts("answer('routes', 'a', {}); store.restore('?photo=a&crop=whole&token=3')")
    assert parts("[asked.length, store.state.token]") == [1, 3]  # it is there
    parts("store.restore('?photo=a')")
    assert parts("[asked.length, asked[1].whole, asked[1].centre]") == [2, False, None]
    parts("store.restore('?photo=new&crop=whole', async (key, part) => { window.found = [key, part]; return key; })")
    assert parts("found") == ["new", {"centre": None, "whole": True}]


def test_a_model_of_squares_says_that_it_cannot_show_all(parts):
    parts("store.crop('a', { whole: true }); store.changeModel({ model: { name: 'n', hash: 'i' }, whole: false })")
    assert parts("[asked[1].whole, store.address().get('crop')]") == [False, None]
    parts("store.restore('?photo=b&crop=whole')")
    sentence = "This model takes squares only, so the middle of the photo is shown."
    assert parts("new Promise(requestAnimationFrame).then(() => store.failure)") == sentence
    assert parts("asked[2].whole") is False


def test_what_ships_with_the_page_is_of_the_middle(parts):
    parts("window.fetched = []; window.fetch = async (url) => { fetched.push(1); throw new Error('none'); }; 0")
    parts("store.configure({ bundles: { cat: 'http://localhost/cat.json' } })")
    parts("store.crop('cat', { whole: true })")
    parts("store.crop('cat', { centre: [0, 0], whole: false })")
    assert parts("fetched.length") == 0
    parts("store.crop('cat', { centre: null })")
    assert parts("fetched.length") == 1


BUSY = (
    "const busy = (kind, key, more = {}) =>"
    " store.receive(kind, { key, error: 'Too many people.', busy: true, ...more });"
)


def test_a_photo_that_the_page_is_too_busy_for_stays_and_can_be_asked_for_again(evaluate):
    evaluate(f"{BUSY} store.show('a'); answer('routes', 'a', {{}}); store.show('b'); busy('routes', 'b')")
    assert evaluate("[store.state.photo, store.failure, store.photos.has('b')]") == ["a", "Too many people.", True]
    assert evaluate("store.data('routes', 'a')") == {}
    evaluate("store.retry()")
    assert evaluate("[asked.at(-1), store.state.photo, store.failure]") == [["routes", "b"], "b", None]
    evaluate("answer('routes', 'b', { x: 1 })")
    assert evaluate("store.data('routes').x") == 1
    assert evaluate("store.retry") is None
    evaluate("refuse('routes', 'cat', 'No model.')")
    assert evaluate("store.retry") is None  # the same again would be the same


def test_a_part_of_a_photo_that_the_page_is_too_busy_for_leaves_the_part_that_was_shown(parts):
    parts("store.show('a'); answer({ x: 1 })")
    parts("store.crop('a', { centre: [0.2, 0.4], whole: false })")
    parts("store.receive('routes', { key: 'a', version: 1, error: 'Too many people.', busy: true })")
    assert parts("[store.data('routes').x, store.photo().centre, store.state.photo]") == [1, None, "a"]
    assert parts("store.failure") == "Too many people."
    count = parts("asked.length")
    parts("store.retry()")
    assert parts("asked.length") == count + 1
    assert parts("asked.at(-1).centre") == [0.2, 0.4]
    assert parts("store.data('routes')") is None


def test_the_results_of_another_model_do_not_come_back(evaluate):
    evaluate("store.show('a'); answer('routes', 'a', {}); store.changeModel({ model: { name: 'n', hash: 'i' } })")
    evaluate(f"{BUSY} busy('routes', 'a', {{ version: 1 }})")
    assert evaluate("[store.data('routes'), store.failure]") == [None, "Too many people."]


def test_what_nobody_misses_is_asked_for_again_after_a_while(evaluate):
    evaluate("store.on(['data'], () => { if (!store.problem('tiles')) store.need('tiles'); })")
    evaluate("store.show('a'); answer('routes', 'a', {})")
    count = evaluate("asked.length")
    evaluate("window.later = []; window.setTimeout = (call, wait) => wait > 1000 && later.push([call, wait])")
    evaluate(f"{BUSY} busy('tiles', 'a')")
    assert evaluate("asked.length") == count  # not at once
    (wait,) = evaluate("later.map(([, wait]) => wait)")
    assert 15_000 <= wait <= 30_000
    evaluate("later.pop()[0]()")
    assert evaluate("asked.slice(-1)") == [["tiles", "a"]]
    evaluate("refuse('tiles', 'a', 'Gone.')")
    assert evaluate("[asked.length, later.length]") == [count + 1, 0]  # what failed is not asked for again
